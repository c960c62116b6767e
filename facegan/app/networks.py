"""The networks and runs that the page offers: those named at the start, and the runs of one folder; nothing else is ever opened."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.api import AttributeGAN, StyleGAN, load
from facegan.checkpoints.networks import is_network
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.restorers import is_restorer
from facegan.checkpoints.run import RunFolder, is_run
from facegan.errors import FaceganError
from facegan.options import SYNTHETIC, App
from facegan.styles.project import Projector
from facegan.styles.projection import Settings
from facegan.styles.store import files_of, has_key, read_styles

MOST_OPEN, MOST_PROJECTORS = 4, 3
MOST_RUNS = 500  # that a folder is looked through for
DEPTH = 3  # of folders below that of the runs


class Networks:
    """What can be chosen on the page, opened once and shared by all visitors."""

    def __init__(self, options: App) -> None:
        self.options = options
        self.named = tuple(dict.fromkeys(options.sources or (SYNTHETIC,)))
        self._open: OrderedDict[tuple[str, float], StyleGAN | AttributeGAN] = OrderedDict()
        self._projectors: OrderedDict[tuple[Any, ...], Projector] = OrderedDict()
        self._lock = threading.RLock()
        for name in self.named:  # before anybody waits for the page
            self._checked(name)

    def _checked(self, name: str) -> None:
        if name.startswith("hub:"):
            self.open_(name)
        elif is_restorer(name):
            raise FaceganError(f"{name} is a restorer, which makes no faces of its own: `facegan restore` uses it")
        elif not (is_network(name) or is_run(name)):
            load(name)  # says what is expected

    # --- what there is
    def runs(self) -> list[str]:
        """The paths of the runs in the folder of runs, and of those named at the start."""
        named = [name for name in self.named if is_run(name)]
        return list(dict.fromkeys([*named, *map(str, found_runs(Path(self.options.runs)))]))

    def called(self, name: str) -> str:
        """What the page calls a run or a network: below the folder of runs the rest of its path is enough."""
        path, folder = Path(name), Path(self.options.runs)
        return str(path.relative_to(folder)) if name not in self.named and path != folder and path.is_relative_to(folder) else name

    def names(self) -> list[str]:
        """Everything that makes faces."""
        return list(dict.fromkeys([*self.named, *(run for run in self.runs() if _makes_faces(run))]))

    def styled(self) -> list[str]:
        """What has styles: StyleGAN2 networks."""
        return [name for name in self.names() if name.startswith("hub:") or is_network(name)]

    def with_critics(self) -> list[str]:
        """The runs that have a critic for each of their attributes."""
        return [run for run in self.runs() if _critics(run)]

    def run(self, name: str) -> str:
        """The run's path; FaceganError for one that is not offered."""
        if name not in self.runs():
            raise FaceganError(f"{_shown(name)} is no run that this page offers: expected one of {_few(self.runs())}")
        return name

    # --- opened
    def open(self, name: str) -> StyleGAN | AttributeGAN:
        """The generator of a name that is offered; a run that has gone on since is read anew."""
        if name not in self.named and name not in self.names():
            raise FaceganError(f"{_shown(name)} is no network that this page offers: expected one of {_few(self.names())}")
        return self.open_(name)

    def open_(self, name: str) -> StyleGAN | AttributeGAN:
        key = (name, _changed(Path(name)))
        with self._lock:
            if key not in self._open:
                self._open[key] = load(name, device=self.options.device, cuda_graphs=self.options.cuda_graphs)
                for old in [other for other in self._open if other[0] == name and other != key]:
                    del self._open[old]
                while len(self._open) > MOST_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(key)
            return self._open[key]

    def stylegan(self, name: str) -> StyleGAN:
        """A network with styles; FaceganError for a run of Method A."""
        gan = self.open(name)
        if not isinstance(gan, StyleGAN):
            raise FaceganError(
                f"{name} is a run of Method A, whose faces have no styles: choose a StyleGAN2 network to mix, project or edit"
            )
        return gan

    def projector(self, name: str, settings: Settings) -> Projector:
        """What projects photos into a network."""
        gan = self.stylegan(name)
        key = (id(gan), name, settings)
        with self._lock:
            if key not in self._projectors:
                self._projectors[key] = Projector(gan.networks, gan.generator, gan.source, settings, gan.cuda_graphs)
                while len(self._projectors) > MOST_PROJECTORS:
                    self._projectors.popitem(last=False)
            self._projectors.move_to_end(key)
            return self._projectors[key]

    # --- what lies beside a network
    def style_names(self, name: str) -> list[str]:
        """The named styles beside a network that is offered."""
        gan = self.stylegan(name)
        return [path.stem for path in files_of(located(gan.source) / "styles")]

    def style_counts(self, name: str) -> dict[str, int]:
        """How many styles each of them stands for; a direction is none."""
        gan = self.stylegan(name)
        paths = {path.stem: path for path in files_of(located(gan.source) / "styles")}
        return {stem: len(read_styles(path, gan.config)) if has_key(path, "w") else 0 for stem, path in paths.items()}

    def recipe(self, name: str) -> Path | None:
        """The recipe beside it."""
        path = located(self.stylegan(name).source) / "recipe.json"
        return path if path.exists() else None


def found_runs(folder: Path) -> list[Path]:
    """The runs in a folder and below, by name; links lead nowhere, and a run's own folders are not looked into."""
    found: list[Path] = []
    level = [folder] if folder.is_dir() else []
    for _ in range(DEPTH):
        below: list[Path] = []
        for place in level:
            for child in sorted(item for item in place.iterdir() if item.is_dir() and not item.is_symlink() and item.name[0] != "."):
                (found if is_run(child) else below).append(child)
        level = below[:MOST_RUNS]
    return sorted(found)[:MOST_RUNS]


def _makes_faces(run: str) -> bool:
    """Whether it has a generator already, of whatever state."""
    folder = RunFolder(run)
    if folder.record()["makes"] == "restorer":
        return False
    if folder.record()["makes"] == "stylegan2":
        return any(folder.stages.glob("*/state.json")) or any(folder.checkpoints.glob("*/state.json"))
    return any(not stage.startswith("phase2") for stage in folder.finished_stages())


def _critics(run: str) -> bool:
    from facegan.data.attributes import names

    folder = RunFolder(run)
    try:
        wanted = names(folder.config().attributes)
    except FaceganError:
        return False
    return folder.record()["makes"] != "restorer" and all(folder.finished(f"phase2-{name}") for name in wanted)


def _changed(path: Path) -> float:
    """When something was last added to a run."""
    parts = (path / "stages", path / "checkpoints")
    return max((part.stat().st_mtime for part in parts if part.is_dir()), default=0.0)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "") if names else "none: there are none"


def _shown(name: object) -> str:
    return repr(str(name)[:60])
