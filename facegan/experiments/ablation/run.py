"""`facegan ablate`, from the flags to the report."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from facegan import __version__
from facegan.checkpoints.run import CONFIG, FREE_TO_CHANGE, RunFolder, is_run, shown, write_json
from facegan.config import TrainConfig
from facegan.data.faces import open_faces, synthetic_seed
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.evaluation.diversity import lpips_with
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.features import Inception
from facegan.experiments.ablation import report, rows, schedule
from facegan.experiments.ablation.tasks import Settings, Study, Task, studies_of
from facegan.files import RECORD_LIMIT, quoted, read_json
from facegan.locks import held
from facegan.methods import configured
from facegan.options import AblateOptions
from facegan.schema import checked

log = logging.getLogger("facegan.experiments.ablation")

RECORD = "ablation.json"
METHODS = ("a", "b")
# Of all rows of a table, like the flags of `facegan train`.
SAME = ("samples", "styles", "candidates", "projection_steps", "refine", "weights", "lpips")
NO_MATTER = FREE_TO_CHANGE - {"data"}  # no lengths: a run may be continued for longer, but rows of one table are equally long


def ablate(options: AblateOptions, given: dict[str, Any]) -> Path:
    """Run what is missing of every row and seed, and return the path of the report.

    Args:
        given: fields of a training's configuration, which go to every row; `out` is the folder of all.

    Raises:
        FaceganError: for what makes no sense, and at the end when a task has failed; Interrupted on a signal.
    """
    settings = check(options, given)
    given = {name: value for name, value in given.items() if name not in ("seed", "out")}  # each run has its own
    studies = studies_of(given, settings, options.pairs, options.rows)
    root = settings.out
    # The children inherit the lock: while any of them lives, also after their parent was killed, a second ablation is refused.
    with held(root, inherited=True) as lock:
        claim(root, given | {name: getattr(options, name) for name in SAME})
        # All rows of one seed before the next: a partial report then compares all rows.
        tasks = sorted((task for study in studies for task in study.tasks if task.requested), key=lambda task: task.seed)
        failures: dict[Task, str] = {}
        changed = partial(write_report, studies, root, failures)
        prepare_judges(studies, failures)
        try:
            schedule.Pool(tasks, options.jobs, changed, [lock.descriptor], failures).run()
        finally:
            changed()
    if failures:
        first, reason = next(iter(failures.items()))
        raise FaceganError(
            f"{len(failures)} of {len(tasks)} tasks failed, among them {first.name} ({reason}); the report names them all, the .log beside "
            "a task's folder has more: fix the cause and run the same command again"
        )
    return root / "report.md"


def write_report(studies: Sequence[Study], root: Path, failures: dict[Task, str]) -> None:
    """A report that cannot be written, as on a full disk, must not end the trainings: the next one may succeed."""
    try:
        report.write(studies, root, failures)
    except Exception:
        log.exception("%s was not written; the same command again writes it", root / "report.md")


def check(options: AblateOptions, given: dict[str, Any]) -> Settings:
    """The options that are not those of a training, against each other."""
    if not given.get("out"):
        raise FaceganError("`out` is missing: name the folder of the ablation, e.g. `out=runs/ablation`")
    options.at_least(1, "seeds", "jobs", "samples", "styles", "projection_steps")
    options.at_least(0, "refine")
    if given.get("method", "a") not in METHODS:
        raise FaceganError(f"`method` is {given['method']}: expected {' or '.join(METHODS)}, whose parts can be told apart")
    if options.pairs and "attributes" in given:
        raise FaceganError("`pairs` and `attributes` both name what faces are to carry: give one of them")
    if given.get("method", "a") == "a":
        rows.refuse_decided([name for name in given if name not in ("out", "seed")])
        for path, load in ((options.weights, Inception), (options.lpips, lpips_with)):
            if path:
                load(path)  # once now, and not for the first time after hours of training
    elif options.weights or options.lpips:
        raise FaceganError("`weights` and `lpips` go with `method=a`: mixes are measured by the judge's own features; omit them")
    if options.refine and given.get("method", "a") == "a":
        raise FaceganError("`refine` goes with `method=b`, whose styles are mixed: omit it")
    resolve_device(given.get("device", AUTO))
    first = given.get("seed", 0)
    if first < 0:
        raise FaceganError(f"`seed` is {first}: expected 0 or more")
    if options.candidates and options.candidates < options.styles:
        raise FaceganError(f"`candidates` is {options.candidates}: expected at least `styles`, {options.styles}, or 0")
    same = {name: getattr(options, name) for name in SAME}
    return Settings(Path(given["out"]), tuple(range(first, first + options.seeds)), **same)


def claim(root: Path, record: dict[str, Any]) -> None:
    """Write OUT/ablation.json, or compare with what is there: the rows of one table must mean the same. A default that is spelled
    out, or another `device`, changes nothing."""
    path = root / RECORD
    if not path.exists():
        return write_json(path, {"facegan": __version__, **record})
    old = checked(read_json(path, RECORD_LIMIT), dict[str, Any], path)
    version = old.pop("facegan", __version__)
    if version != __version__:
        log.warning("%s was begun with facegan %s, this is %s: rows of one table should have one version", root, version, __version__)
    changed = [name for name in sorted({*old, *record}) if old.get(name) != record.get(name) and name not in NO_MATTER]
    if "data" in changed and same_faces(root, old, record):
        old["data"] = record["data"]
        changed.remove("data")
    try:
        same = not changed or meaning(old) == meaning(record)
    except (TypeError, LookupError, AttributeError):  # what it holds are no flags
        raise FaceganError(f"{path} is damaged, or of another version: name another folder") from None
    if not same:
        said = "; ".join(f"`{quoted(name)}` {shown(old.get(name))} there, {shown(record.get(name))} here" for name in changed)
        raise FaceganError(f"`out={root}` belongs to another ablation ({said}): name another folder, or give the same options to resume")


def same_faces(root: Path, old: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether `data` of both are one, by the path or by what the runs that have begun learned from."""
    there, here = (str(each.get("data", "")) for each in (old, record))
    if not there or not here or synthetic_seed(here) is not None:
        return False
    if os.path.realpath(there) == os.path.realpath(here):
        return True
    known = {RunFolder(file.parent).record()["data_fingerprint"] for file in root.rglob(CONFIG) if is_run(file.parent)}
    return bool(known) and open_faces(here, record.get("resolution", TrainConfig.resolution)).fingerprint in known


def meaning(record: dict[str, Any]) -> dict[str, Any]:
    """What OUT/ablation.json comes to: the configuration of every row, or why there is none, and what is no flag of a training."""
    given = {name: value for name, value in record.items() if name not in SAME}
    same = {name: record[name] for name in SAME if record.get(name)}  # those left empty may be of an older version
    if given.get("method", "a") == "b":
        return same | {"configuration": fixed(configured(**{**given, "out": "out"}))}
    found: dict[str, Any] = {}
    for name in rows.ROWS:
        try:
            found[name] = fixed(configured(**rows.flags_of(name, given, 0, "out", "start")))
        except FaceganError as error:
            found[name] = str(error)
    return same | found


def fixed(config: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_json().items() if name not in NO_MATTER}


def prepare_judges(studies: Sequence[Study], failures: dict[Task, str]) -> None:
    """Train the judge of every seed's data now, into the cache, and not by several children at once.

    Where data have no judge (as without joint faces to measure by), the tasks of these attributes fail, and the others continue.
    """
    for study in studies:
        for seed in sorted({task.seed for task in study.tasks if task.requested and not task.done}):
            try:
                Evaluator(study.judged_by(seed), device=study.config.device)
            except Exception as error:  # whatever it is, the other seeds and pairs can do without
                said = str(error) if isinstance(error, FaceganError) else f"{type(error).__name__}: {error}"
                log.warning("%s, seed %d: %s", study.title, seed, said)
                failures |= {task: said for task in study.tasks if task.seed == seed and task.requested and not task.done}
