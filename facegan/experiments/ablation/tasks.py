"""What an ablation runs: one task a row and seed, each a few commands in a folder of its own.

OUT/<row>/seed<k>/       the run of `facegan train`, its evaluation and its curve; OUT/<row>/seed<k>.log what its commands said
OUT/<pair>/<row>/...     with several attribute pairs
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from facegan.checkpoints import checkpoint
from facegan.config import TrainConfig, listed
from facegan.data.attributes import names
from facegan.errors import FaceganError
from facegan.experiments.ablation import rows
from facegan.experiments.ablation.rows import CONDITIONAL, MIXES, ROWS_B
from facegan.files import RECORD_LIMIT, read_json
from facegan.methods import configured
from facegan.schema import checked
from facegan.styles.store import SUFFIX

TRAIN, CURVE = "facegan.cli", "facegan.experiments.ablation.curve"


class _Report(TypedDict):
    attributes: list[str]


@dataclass(frozen=True)
class Settings:
    """What the user asked for, besides the flags of `facegan train`."""

    out: Path
    seeds: tuple[int, ...]
    samples: int
    styles: int = 32  # of each attribute, Method B; half of them are for the search, so (styles / 2)^2 mixes can be rated
    candidates: int = 0  # of each attribute, of which the styles are the best; 0: as many
    projection_steps: int = 1000
    refine: int = 0  # steps, 0: mixes are not refined
    weights: str = ""  # of Inception and VGG16, for `facegan evaluate`
    lpips: str = ""

    @property
    def evaluation(self) -> tuple[str, ...]:
        """Words of `facegan evaluate`."""
        files = (("--weights", self.weights), ("--lpips", self.lpips))
        return ("--samples", str(self.samples), *(word for flag, file in files if file for word in (flag, file)))


@dataclass(frozen=True)
class Task:
    """The commands of one row and seed; done once `result` exists."""

    row: str
    seed: int
    folder: Path
    result: Path
    commands: tuple[tuple[str, ...], ...] = field(repr=False)  # (module, words...), for `python -m`
    needs: Task | None = None
    trained: Path | None = None  # a file that exists once tasks that need this one may start; None: the result
    requested: bool = True  # by this call; else it is only reported, as an earlier one left it

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def done(self) -> bool:
        return self.result.exists()

    @property
    def usable(self) -> bool:
        """Whether tasks that need this one may start."""
        return self.done or (self.trained is not None and self.trained.exists())

    @property
    def costs(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.costs.json")

    def typed(self) -> list[str]:
        """What a person would type, the course of training aside."""
        return [shlex.join(("facegan", *words)) for module, *words in self.commands if module == TRAIN]


@dataclass(frozen=True)
class Study:
    """The table of one list of attributes."""

    attributes: tuple[str, ...]
    method: str
    root: Path
    tasks: tuple[Task, ...]
    config: TrainConfig = field(repr=False)  # of the first row and seed: data, resolution, batch

    @property
    def title(self) -> str:
        return " and ".join(names(self.attributes))

    def of(self, row: str) -> list[Task]:
        return [task for task in self.tasks if task.row == row]

    def judged_by(self, seed: int) -> TrainConfig:
        """A configuration with the data, attributes and split of a seed."""
        same = {name: getattr(self.config, name) for name in ("method", "data", "attributes", "resolution", "num", "minimum_images", "out")}
        return configured(**{**same, "seed": seed})


def studies_of(given: dict[str, Any], settings: Settings, pairs: Sequence[str], wanted: Sequence[str]) -> list[Study]:
    """The studies of all attribute lists; raises FaceganError for flags that make no valid run, before any work is done.

    What earlier calls left in the folder, of other rows, seeds and pairs, is part of them, but not asked for.
    """
    lists = [listed(pair) for pair in pairs] or [listed(given.get("attributes", TrainConfig.attributes))]
    slugs = ["+".join(names(attributes)) for attributes in lists]
    twice = [slug for slug in slugs if slugs.count(slug) > 1]
    if twice:
        raise FaceganError(f"`pairs` names {twice[0]} more than once: name each pair once")
    build = {"a": method_a, "b": method_b}[given.get("method", "a")]
    if not pairs:
        return [build({**given, "attributes": lists[0]}, settings, settings.out, wanted)]
    studies = [
        build({**given, "attributes": attributes}, settings, settings.out / slug, wanted)
        for attributes, slug in zip(lists, slugs, strict=True)
    ]
    for path in sorted(settings.out.glob("*/report.json")):
        if path.parent.name not in slugs:
            attributes = checked(read_json(path, RECORD_LIMIT), _Report, path)["attributes"]
            studies.append(build({**given, "attributes": attributes}, replace(settings, seeds=()), path.parent, wanted))
    return studies


def seeds_left(root: Path) -> list[int]:
    """Seeds of which earlier calls left folders, of one row (`root`/<row>) or of Method B."""
    return [int(path.name[4:]) for path in root.glob("seed*") if path.is_dir() and path.name[4:].isdecimal()]


def on_device(given: dict[str, Any]) -> tuple[str, ...]:
    """The words by which a task's other commands compute where its training does."""
    return ("--device", given["device"]) if "device" in given else ()


def method_a(given: dict[str, Any], settings: Settings, root: Path, wanted: Sequence[str]) -> Study:
    tasks: list[Task] = []
    chosen = rows.chosen(wanted)
    asked = {(name, seed) for name in chosen for seed in settings.seeds}
    known = asked | {(name, seed) for name in rows.ROWS for seed in seeds_left(root / name)}
    for seed in sorted({seed for _, seed in known}):
        start: Task | None = None
        for name in (name for name in rows.ROWS if (name, seed) in known):
            folder, common = root / name / f"seed{seed}", root / rows.START / f"seed{seed}"
            flags = rows.flags_of(name, given, seed, str(folder), str(common))
            commands = (
                (TRAIN, "train", *rows.to_argv(flags)),
                (CURVE, str(folder), *on_device(given)[1:]),
                # One floor for all rows: what a network of attribute 1 alone gives, of the same seeds.
                (TRAIN, "evaluate", str(folder), "--floor", str(common), *settings.evaluation, *on_device(given)),
            )
            task = Task(name, seed, folder, folder / "evaluation" / "report.json", commands, start, requested=(name, seed) in asked)
            if name == rows.START:
                task = start = replace(task, trained=folder / "stages" / "phase1" / checkpoint.METADATA)
            tasks.append(task)
    return Study(given["attributes"], "a", root, tuple(tasks), configured(**{**given, "method": "a", "out": str(root)}))


def method_b(given: dict[str, Any], settings: Settings, root: Path, wanted: Sequence[str]) -> Study:
    """One network a seed; projected styles of both attributes, their masks and channels; the search's table has the rows. And one more
    network, conditional, of the same length, asked for both labels."""
    attributes = names(given["attributes"])
    if len(attributes) != 2:
        raise FaceganError(
            f"`attributes` is {','.join(given['attributes'])}: Method B mixes styles of two, so expected two, such as bald,beard"
        )
    unknown = [name for name in wanted if name not in (*ROWS_B, "all")]
    if unknown:
        raise FaceganError(
            f"`rows` has {unknown[0]!r}: with `method=b` expected {MIXES}, all ways of mixing from one search, or {CONDITIONAL}"
        )
    chosen = [*ROWS_B] if not wanted or "all" in wanted else wanted
    tasks = []
    for seed in sorted({*settings.seeds, *seeds_left(root)} if MIXES in chosen else seeds_left(root)):
        folder = root / f"seed{seed}"
        run, styles, mixes = folder / "run", folder / "styles", folder / MIXES
        project = ("--network", str(run), "--num", str(settings.candidates or settings.styles), "--steps", str(settings.projection_steps),
                   "--seed", str(seed), *on_device(given))  # fmt: skip
        files = [str(styles / f"{name}{SUFFIX}" if settings.candidates else styles / name) for name in attributes]
        sources = ("--rows", files[0], "--cols", files[1])
        commands = (
            (TRAIN, "train", *rows.to_argv({**given, "method": "b", "seed": seed, "out": str(run)})),
            *((TRAIN, "project", *project, "--attribute", name, "--out", str(styles / name)) for name in attributes),
            *((TRAIN, "styles", "collect", str(styles / name), "--best", str(settings.styles), "--out", file)
              for name, file in zip(attributes, files, strict=True) if settings.candidates),
            (TRAIN, "styles", "mask", "--network", str(run), *on_device(given)),
            *(() if given.get("conditional") else [(TRAIN, "styles", "channels", "--network", str(run), "--styles", str(styles),
              "--attributes", attributes[1], *on_device(given))]),
            (TRAIN, "mix-search", "--network", str(run), *sources, "--attributes", ",".join(given["attributes"]),
             "--pairs", str(settings.samples), "--seed", str(seed), *(("--refine", str(settings.refine)) if settings.refine else ()),
             "--out", str(mixes), *on_device(given)),
        )  # fmt: skip
        requested = MIXES in chosen and seed in settings.seeds
        tasks.append(Task(MIXES, seed, folder, mixes / "search.json", commands, requested=requested))
    tasks += conditional_tasks(given, settings, root, CONDITIONAL in chosen)
    return Study(given["attributes"], "b", root, tuple(tasks), configured(**{**given, "method": "b", "out": str(root)}))


def conditional_tasks(given: dict[str, Any], settings: Settings, root: Path, asked: bool) -> list[Task]:
    """The baseline that anyone would try first: multi-hot labels, asked for the combination that was never seen. It needs no critics."""
    place = root / CONDITIONAL
    tasks = []
    for seed in sorted({*(settings.seeds if asked else ()), *seeds_left(place)}):
        folder = place / f"seed{seed}"
        flags = {**given, "method": "b", "conditional": True, "phase2_epochs": 0, "seed": seed, "out": str(folder)}
        commands = ((TRAIN, "train", *rows.to_argv(flags)), (TRAIN, "evaluate", str(folder), *settings.evaluation, *on_device(given)))
        requested = asked and seed in settings.seeds
        tasks.append(Task(CONDITIONAL, seed, folder, folder / "evaluation" / "report.json", commands, requested=requested))
    return tasks
