"""Mix: styles in rows and columns, a walk through them, and the search for a recipe."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from facegan.app.networks import Networks
from facegan.app.sessions import Session, zipped
from facegan.app.words import command, told
from facegan.checkpoints.pretrained import located
from facegan.errors import FaceganError
from facegan.options import Mix, MixOptions, MixSearch, Mode, SearchOptions, Walk, WalkOptions, of, parse_seeds
from facegan.plotting.sheets import save_png
from facegan.styles.masks import NAMED, mask_names
from facegan.styles.mix import Mixing
from facegan.styles.recipe import Recipe, layer_sizes

BESIDE, FOUND = "the network's recipe", "the recipe found"  # besides the modes of the library
MODES = tuple(mode for mode in get_args(Mode) if mode != "stylespace")  # which takes a file of channels, or comes in a recipe
REGION = "lower"  # where columns go unless the visitor says otherwise
MOST_FACES = 1100  # of a grid, as 32 by 32 styles of two attributes make: more are for `facegan mix`
MOST_FRAMES = 600
KEPT, PHOTO = "seed ", "photo "  # how kept faces and projected photos are called among the named styles
QUICK = 1  # compress_level of pictures that are looked at for a moment


@dataclass(frozen=True)
class Asked:
    """What the page's controls say."""

    network: str
    row_seeds: str = ""
    row_styles: tuple[str, ...] = ()
    col_seeds: str = ""
    col_styles: tuple[str, ...] = ()
    mode: str = BESIDE
    first: int = 0  # layers
    last: int = 0
    weight: float = 1.0
    truncation: float = 1.0
    mask: str = ""


@dataclass(frozen=True, eq=False)
class Mixed:
    """A grid as a picture, and how it is made again."""

    picture: Path
    recipe: str
    command: str
    notes: tuple[str, ...]


def modes(networks: Networks, session: Session | None, network: str) -> list[str]:
    """The ways of mixing that this network has here: recipes first."""
    beside = [BESIDE] if networks.recipe(network) else []
    found = [FOUND] if session and network in session.recipes else []
    return [*found, *beside, *MODES]


def styles(networks: Networks, session: Session | None, network: str) -> list[str]:
    """What can be ticked for rows and columns: named styles, faces kept, photos projected."""
    kept = [f"{KEPT}{seed}" for name, seed in session.kept if name == network] if session else []
    photos = [f"{PHOTO}{name}" for of_network, name in session.styles if of_network == network] if session else []
    return [*networks.style_names(network), *kept, *photos]


def masks(networks: Networks, network: str) -> list[str]:
    """Where a column's style may go: the network's masks first."""
    return mask_names([located(networks.stylegan(network).source) / "masks"]) if network else [*NAMED]


def free(mode: str) -> tuple[bool, bool]:
    """Whether layers, and the weight, are the visitor's to choose: a recipe holds both, and crossover takes a layer or leaves it."""
    own = mode in MODES
    return own, own and mode != "crossover"


def sizes(networks: Networks, network: str) -> list[int]:
    """Pixels of the layer that each style goes to."""
    return layer_sizes(networks.stylegan(network).config)


def called(networks: Networks, network: str) -> Callable[[str], str]:
    """How styles are shown: `bald (32)` where a name stands for many."""
    counts = networks.style_counts(network) if network else {}
    return lambda name: f"{name} ({counts[name]})" if counts.get(name, 1) > 1 else name


def layers_in_words(networks: Networks, network: str, first: float, last: float) -> str:
    """`layers 4 to 7 of 0 to 9: 16 px, 32 px`"""
    known = sizes(networks, network)
    low, high = _range(known, first, last)
    reached = list(dict.fromkeys(known[low : high + 1]))
    return f"layers {low} to {high} of 0 to {len(known) - 1}: {', '.join(f'{size} px' for size in reached)}"


def _range(known: Sequence[int], first: float, last: float) -> tuple[int, int]:
    low, high = sorted((int(first), int(last)))
    if not 0 <= low <= high < len(known):
        raise FaceganError(f"`layers` is {low}-{high}: expected 0 to {len(known) - 1}")
    return low, high


class Request:
    """What is asked for, as options: with the paths of this machine, and as a visitor would write them."""

    def __init__(self, networks: Networks, session: Session, asked: Asked) -> None:
        self.networks, self.session, self.asked = networks, session, asked
        self.gan = networks.stylegan(asked.network)
        self.paths: dict[str, str] = {}  # word of the command -> path here
        rows, cols = self._words(asked.row_seeds, asked.row_styles, "rows"), self._words(asked.col_seeds, asked.col_styles, "cols")
        self.rows, self.cols = rows, cols
        given = networks.options
        self.common: dict[str, Any] = dict(network=asked.network, device=given.device, cuda_graphs=given.cuda_graphs)

    def _words(self, seeds: str, names: Sequence[str], what: str) -> tuple[str, ...]:
        """Seeds and ticked styles as words of a command, each once."""
        offered = styles(self.networks, self.session, self.asked.network)
        found = [str(seed) for seed in parse_seeds(seeds.strip(), f"`{what}` is")] if seeds.strip() else []
        for name in names:
            if name not in offered:
                raise FaceganError(
                    f"`{what}` names {name[:60]!r}, which is no style here: expected one of {', '.join(offered[:8]) or 'none'}"
                )
            if re.fullmatch(rf"{KEPT}\d+", name):
                found.append(name.removeprefix(KEPT))
            elif name.startswith(PHOTO):
                path = self.session.styles[(self.asked.network, name.removeprefix(PHOTO))]
                self.paths[f"photo/{path.name}"] = str(path)
                found.append(f"photo/{path.name}")
            else:
                found.append(name)
        return tuple(dict.fromkeys(found))

    def mix(self) -> Mix:
        """The options of `facegan mix`."""
        for name in ("rows", "cols"):
            if not getattr(self, name):
                raise FaceganError(f"`{name}` is missing: name seeds, or tick styles")
        rows, cols = self._count(self.rows), self._count(self.cols)
        if rows * cols > MOST_FACES:
            raise FaceganError(f"{rows} rows and {cols} columns are more than the {MOST_FACES} mixes of a page: `facegan mix` makes more")
        return Mix(rows=self.rows, cols=self.cols, out="mixes", truncation=float(self.asked.truncation), **self._how(), **self.common)

    def _count(self, words: Sequence[str]) -> int:
        """How many styles they name: a name may stand for many."""
        return len(self.gan.styles([self.paths.get(word, word) for word in words], truncation=float(self.asked.truncation)))

    def _how(self) -> dict[str, Any]:
        """Recipe, or mode, layers and weight."""
        asked = self.asked
        if asked.mode == BESIDE:
            return dict(recipe="default")
        if asked.mode == FOUND:
            if asked.network not in self.session.recipes:
                raise FaceganError("`recipe`: none was found yet for this network; search one first, or choose a mode")
            self.paths["search/recipe.json"] = str(self.session.recipes[asked.network])
            return dict(recipe="search/recipe.json")
        if asked.mode not in MODES:
            raise FaceganError(
                f"`mode` is {asked.mode[:40]!r}: expected one of {', '.join(modes(self.networks, self.session, asked.network))}"
            )
        low, high = _range(layer_sizes(self.gan.config), asked.first, asked.last)
        how: dict[str, Any] = dict(mode=asked.mode, layers=f"{low}-{high}" if low < high else f"{low}")
        if asked.mode != "crossover":  # which takes the whole style of a layer or none of it
            how["weight"] = float(asked.weight)
        if asked.mode == "regional":
            offered = masks(self.networks, asked.network)
            if asked.mask and asked.mask not in offered:
                raise FaceganError(f"`mask` is {asked.mask[:40]!r}: expected one of {', '.join(offered)}")
            how["mask"] = asked.mask or REGION
        return how

    def walk(self, frames: int, fps: float, suffix: str) -> Walk:
        """The options of `facegan walk`: through the rows, then the columns."""
        words = tuple(dict.fromkeys([*self.rows, *self.cols]))
        count = self._count(words)
        if int(frames) * count > MOST_FRAMES:
            raise FaceganError(f"`frames` makes {int(frames) * count} pictures of {count} styles: expected at most {MOST_FRAMES}")
        if suffix not in suffixes():
            raise FaceganError(f"a walk is written as {' or '.join(suffixes())}, not as {suffix[:20]!r}")
        return Walk(
            rows=words, frames=int(frames), fps=float(fps), out=f"walk{suffix}", truncation=float(self.asked.truncation), **self.common
        )

    def search(self, critics: str, pairs: int) -> MixSearch:
        """The options of `facegan mix-search`."""
        known = self.networks.with_critics()
        if not known:
            raise FaceganError(
                "A search needs critics, and no run here has one for each attribute: train with --critics all, or start the "
                "page with --runs and the folder of such a run"
            )
        if critics not in known:
            raise FaceganError(f"`critics` is {critics[:60]!r}: expected one of {', '.join(known[:6])}")
        mode: dict[str, Any] = {"mode": self.asked.mode} if self.asked.mode in MODES else {}
        return MixSearch(
            rows=self.rows,
            cols=self.cols,
            critics="" if critics == self.asked.network else critics,
            pairs=int(pairs),
            truncation=float(self.asked.truncation),
            out="search",
            **mode,
            **self.common,
        )

    def here(self, options: Mix | Walk | MixSearch, kind: type) -> dict[str, Any]:
        """The same options for the library, with paths of this machine."""
        words: dict[str, Any] = {
            name: tuple(self.paths.get(word, word) for word in getattr(options, name))
            for name in ("rows", "cols")
            if hasattr(options, name)
        }
        if getattr(options, "recipe", ""):
            words["recipe"] = self.paths.get(options.recipe, options.recipe)  # type: ignore[union-attr]
        return of(replace(options, **words), kind)


def _mixing(request: Request, options: Mix) -> Mixing:
    mixing: Mixing = request.gan.mixing(**request.here(options, MixOptions))
    return mixing


def mix(networks: Networks, session: Session, asked: Asked) -> Mixed:
    """Mix and draw the grid."""
    with told(), session.job("mix") as job, job.at_work():
        request = Request(networks, session, asked)
        options = request.mix()
        mixing = _mixing(request, options)
        picture = session.inside("mix") / "grid.png"
        save_png(mixing.grid(), picture, QUICK)
        session.shown = (asked, options)
        return Mixed(picture, mixing.recipe.describe(), command("mix", options), tuple(job.notes))


def download(networks: Networks, session: Session, asked: Asked) -> Path:
    """The files of `facegan mix`: every face, the grid and recipe.json, in one archive."""
    with told(), session.job("mix") as job, job.at_work():
        request = Request(networks, session, asked)
        folder = session.fresh("mixes")
        _mixing(request, request.mix()).save(folder)
        return zipped(folder, session.inside("downloads") / "mixes.zip")


def suffixes() -> list[str]:
    """The kinds of video that can be written here."""
    return [".gif", ".mp4"] if importlib.util.find_spec("imageio_ffmpeg") else [".gif"]


@dataclass(frozen=True)
class Walked:
    """A video as a file."""

    video: Path
    command: str


def walk(networks: Networks, session: Session, asked: Asked, frames: int, fps: float, suffix: str) -> Walked:
    """Write the video of a walk; for a `Worker`, which has the device."""
    request = Request(networks, session, asked)
    options = request.walk(frames, fps, suffix)
    video = request.gan.walk(out=session.fresh("walk") / options.out, fps=options.fps, **request.here(options, WalkOptions))
    return Walked(video, command("walk", options))


@dataclass(frozen=True)
class Searched:
    """What a search found."""

    recipe: Recipe
    table: str
    pictures: tuple[Path, ...]
    command: str
    archive: Path


def search(networks: Networks, session: Session, asked: Asked, critics: str, pairs: int) -> Searched:
    """Search for the recipe with which most mixes carry all attributes; for a `Worker`, which has the device."""
    request = Request(networks, session, asked)
    options = request.search(critics, pairs)
    out = session.fresh("search")
    found = request.gan.search_recipe(out=out, **request.here(options, SearchOptions))
    session.recipes[asked.network] = out / "recipe.json"
    pictures = tuple(out / name for name in ("grid.png", "ways.png") if (out / name).exists())
    archive = zipped(out, session.inside("downloads") / "search.zip")
    return Searched(found.recipe, found.text, pictures, command("mix-search", options), archive)
