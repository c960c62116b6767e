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


def ablate(out: str, seeds: int, jobs: int, samples: int, rows: str, pairs: Sequence[str], styles: int, projection_steps: int,
           **given: Any) -> list[Study]:  # fmt: skip
    """Run what is missing of every row and seed; `given`: flags of `facegan train` by field name.

    Raises FaceganError for flags that make no sense, and at the end when a task has failed; Interrupted on a signal.
    """
    settings = check(out, seeds, jobs, samples, styles, projection_steps, given, pairs)
    studies = plan(without_ours(given), settings, pairs, rows)
    root = settings.out
    root.mkdir(parents=True, exist_ok=True)
    with locked(root) as descriptor:
        claim(root, {"given": without_ours(given), "samples": samples, "styles": styles, "projection_steps": projection_steps})
        # All rows of one seed before the next: a partial report then compares all rows.
        tasks = sorted((task for study in studies for task in study.tasks), key=lambda task: task.seed)
        failures: dict[Task, str] = {}
        changed = partial(report.write, studies, root, failures)
        prepare_judges(studies, failures)
        pool = schedule.Pool(tasks, jobs, changed, [descriptor], failures)
        try:
            pool.run()
        finally:
            changed()
    print(root / "report.md" if len(studies) > 1 else studies[0].root / "report.md")
    if failures:
        first, reason = next(iter(failures.items()))
        raise FaceganError(
            f"{len(failures)} of {len(tasks)} tasks failed, among them {first.name} ({reason}); the report names them all, "
            f"{first.log} has more: mend the cause and run the same command again"
        )
    return studies


def check(out: str, seeds: int, jobs: int, samples: int, styles: int, projection_steps: int, given: dict[str, Any],
          pairs: Sequence[str]) -> Settings:  # fmt: skip
    if not out:
        raise FaceganError("--out is missing: name the folder of the ablation, e.g. --out runs/ablation")
    for name, value in (("seeds", seeds), ("jobs", jobs), ("samples", samples), ("styles", styles), ("projection-steps", projection_steps)):
        if value < 1:
            raise FaceganError(f"--{name} is {value}: expected at least 1")
    if given.get("method", "a") not in METHODS:
        raise FaceganError(f"--method is {given['method']}: expected {' or '.join(METHODS)}, whose parts can be told apart")
    if pairs and "attributes" in given:
        raise FaceganError("--pairs and --attributes both name what the faces shall carry: give one of them")
    if given.get("method", "a") == "a":
        rows.refuse_decided(list(given))
    first = given.get("seed", 0)
    if first < 0:
        raise FaceganError(f"--seed is {first}: expected 0 or more")
    return Settings(Path(out), tuple(range(first, first + seeds)), samples, styles, projection_steps)


def without_ours(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that every run gets; each has a seed of its own."""
    return {name: value for name, value in given.items() if name != "seed"}


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
    flat = [{**one["given"], **{name: value for name, value in one.items() if name != "given"}} for one in (old, record)]
    changed = [name for name in sorted({*flat[0], *flat[1]}) if flat[0].get(name) != flat[1].get(name)]
    if changed:
        said = "; ".join(f"--{name.replace('_', '-')} {flat[0].get(name)!r} there, {flat[1].get(name)!r} here" for name in changed)
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
