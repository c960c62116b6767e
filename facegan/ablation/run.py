"""`facegan ablate`, from the flags to the report."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from facegan.ablation import report, rows, schedule
from facegan.ablation.tasks import Settings, Study, Task, plan
from facegan.errors import FaceganError
from facegan.evaluate import Evaluator
from facegan.training.folder import write_json

log = logging.getLogger("facegan.ablation")

RECORD = "ablation.json"
METHODS = ("a", "b")
SAME = ("samples", "styles", "projection_steps", "weights", "lpips")  # of all rows of a table, like the flags of `facegan train`
OURS = ("out", "seeds", "jobs", "rows", "pairs", *SAME)


def ablate(arguments: dict[str, Any]) -> list[Study]:
    """Run what is missing of every row and seed. `arguments`: those of OURS, and flags of `facegan train` by field name.

    Raises FaceganError for flags that make no sense, and at the end when a task has failed; Interrupted on a signal.
    """
    given = {name: value for name, value in arguments.items() if name not in OURS}
    settings = check(arguments, given)
    given.pop("seed", None)  # each run has its own
    studies = plan(given, settings, arguments["pairs"], arguments["rows"])
    root = settings.out
    root.mkdir(parents=True, exist_ok=True)
    with locked(root) as descriptor:
        claim(root, given | {name: arguments[name] for name in SAME})
        # All rows of one seed before the next: a partial report then compares all rows.
        tasks = sorted((task for study in studies for task in study.tasks), key=lambda task: task.seed)
        failures: dict[Task, str] = {}
        changed = partial(report.write, studies, root, failures)
        prepare_judges(studies, failures)
        try:
            schedule.Pool(tasks, arguments["jobs"], changed, [descriptor], failures).run()
        finally:
            changed()
    print((root if arguments["pairs"] else studies[0].root) / "report.md")
    if failures:
        first, reason = next(iter(failures.items()))
        raise FaceganError(
            f"{len(failures)} of {len(tasks)} tasks failed, among them {first.name} ({reason}); the report names them all, the .log beside "
            "a task's folder has more: mend the cause and run the same command again"
        )
    return studies


def check(arguments: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The flags that are not those of a training, against each other."""
    if not arguments["out"]:
        raise FaceganError("--out is missing: name the folder of the ablation, e.g. --out runs/ablation")
    for name in ("seeds", "jobs", "samples", "styles", "projection_steps"):
        if arguments[name] < 1:
            raise FaceganError(f"--{name.replace('_', '-')} is {arguments[name]}: expected at least 1")
    if given.get("method", "a") not in METHODS:
        raise FaceganError(f"--method is {given['method']}: expected {' or '.join(METHODS)}, whose parts can be told apart")
    if arguments["pairs"] and "attributes" in given:
        raise FaceganError("--pairs and --attributes both name what the faces shall carry: give one of them")
    for name in ("weights", "lpips"):
        if arguments[name] and not Path(arguments[name]).is_file():
            raise FaceganError(f"--{name} is {arguments[name]}: there is no such file")
    if given.get("method", "a") == "a":
        rows.refuse_decided(list(given))
    first = given.get("seed", 0)
    if first < 0:
        raise FaceganError(f"--seed is {first}: expected 0 or more")
    return Settings(Path(arguments["out"]), tuple(range(first, first + arguments["seeds"])), **{name: arguments[name] for name in SAME})


@contextmanager
def locked(root: Path) -> Iterator[int]:
    """Holds OUT/.lock, whose descriptor the children inherit: while any of them lives, also after their parent was killed, a second
    ablation in the same folder is refused."""
    with open(root / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FaceganError(f"--out {root} is in use by an ablation that still runs: wait for it, or name another folder") from None
        yield handle.fileno()


def claim(root: Path, record: dict[str, Any]) -> None:
    """Write OUT/ablation.json, or compare with what is there: the rows of one table must have the same flags."""
    path = root / RECORD
    if not path.exists():
        return write_json(path, record)
    old = json.loads(path.read_text())
    changed = [name for name in sorted({*old, *record}) if old.get(name) != record.get(name)]
    if changed:
        said = "; ".join(f"--{name.replace('_', '-')} {old.get(name)!r} there, {record.get(name)!r} here" for name in changed)
        raise FaceganError(f"--out {root} belongs to another ablation ({said}): name another folder, or give the same flags to go on")


def prepare_judges(studies: Sequence[Study], failures: dict[Task, str]) -> None:
    """Train the judge of every seed's data now, into the cache, and not by several children at once.

    Where data have no judge (no joint faces to measure by), the tasks of these attributes fail, and the others go on.
    """
    for study in studies:
        for seed in sorted({task.seed for task in study.tasks if not task.done}):
            try:
                Evaluator(study.judged_by(seed))
            except FaceganError as error:
                log.warning("%s, seed %d: %s", study.title, seed, error)
                failures |= {task: str(error) for task in study.tasks if task.seed == seed and not task.done}
