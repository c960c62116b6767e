"""The folder of a run: configuration, metrics, checkpoints, finished stages, pictures.

config.json  metrics.jsonl  ids/<stage>.txt  samples/<stage>-0000200.png
checkpoints/<stage>-0000200/   while a stage runs          stages/<stage>/   when it has ended
"""

from __future__ import annotations

import glob
import json
import logging
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

from facegan import __version__
from facegan.checkpoints import checkpoint, lists
from facegan.checkpoints.metrics import Metrics
from facegan.checkpoints.sources import digests, same_network
from facegan.config import TrainConfig
from facegan.data.faces import STREAMED
from facegan.errors import FaceganError
from facegan.files import RECORD_LIMIT, quoted, read_json, read_text, remove_whole, sweep, write_whole
from facegan.locks import FolderLock
from facegan.schema import Range, checked

CONFIG = "config.json"
# These do not change what a step computes; of `data` the fingerprint tells, wherever they lie.
FREE_TO_CHANGE = {"out", "data", "device", "cuda_graphs", "compile", "keep_checkpoints", "accumulate", "peer_timeout", "threads", "stream",
                  "cache_limit", "download_limit", "decoders"}  # fmt: skip

log = logging.getLogger("facegan.train")


class Record(TypedDict):
    """Of config.json."""

    config: dict[str, Any]
    makes: str  # which reader opens it, see TrainConfig.MAKES
    data_fingerprint: str


class StageMetadata(TypedDict):
    """Of every finished stage's state.json."""

    order: Annotated[int, Range(0)]  # among the stages, as they ended
    metrics_bytes: Annotated[int, Range(0)]  # of metrics.jsonl when it ended
    steps: Annotated[int, Range(0)]
    images: Annotated[int, Range(0)]
    seconds: Annotated[float, Range(0)]


def data_differences(there: str, here: str, old: str, new: str) -> list[str]:
    """What to say of two fingerprints (`FaceData.fingerprint`), and of where the data lie."""
    ways = ["streamed" if each.startswith(STREAMED) else "kept decoded" for each in (there, here)]
    if ways[0] != ways[1]:
        return [f"its images are {ways[0]} there, {ways[1]} here: `stream` and `cache_limit` say which"]
    if there == here:
        return []
    return ["the images or labels under `data` changed" if old == new else f"`data` {old} there, {new} here, of other content"]


def made_by_run(folder: str | Path) -> str | None:
    """What a run makes, see `TrainConfig.MAKES`; None where the folder is no run."""
    try:
        return RunFolder(folder).record()["makes"]
    except FaceganError:
        return None


def is_run(folder: str | Path) -> bool:
    """Whether this is a folder of `facegan train`, of whatever method."""
    return made_by_run(folder) is not None


class RunFolder:
    """A run on disk: what it was asked for, what it learned from, and what it made so far."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.checkpoints, self.stages = self.root / "checkpoints", self.root / "stages"
        self.metrics, self.config_file = self.root / "metrics.jsonl", self.root / CONFIG
        self.extended: set[str] = set()  # stages that have ended, and are to be continued
        self.outlasted = False  # a stage has ended after more steps than it is to have
        self._records = Metrics(self.metrics)
        self._lock: FolderLock | None = None

    # --- configuration
    def claim(self, config: TrainConfig, fingerprint: str, threads: int = 0) -> None:
        """Lock the folder for this process, until `release`, and write config.json into a new one; in an old one check that it is the same
        run, unless nothing is lost by another one. What killed writers left there is removed. `threads`: of a CPU, to be noted."""
        try:
            self._refuse_others()
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.root)
            self._claim(config, fingerprint, threads)
            self._sweep()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise FaceganError(f"`out={self.root}` cannot be written ({error}): name a folder where you may write") from error
            raise

    def release(self) -> None:
        """Give back the lock."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def _refuse_others(self) -> None:
        if self.root.is_dir() and not self.config_file.exists() and any(not item.name.startswith(".") for item in self.root.iterdir()):
            raise FaceganError(f"`out={self.root}` holds other files and no config.json: name a new or empty folder")

    def _claim(self, config: TrainConfig, fingerprint: str, threads: int) -> None:
        record: dict[str, Any] = {
            "facegan": __version__,
            "makes": config.MAKES,
            "config": config.to_json(),
            "data_fingerprint": fingerprint,
            "threads": threads,
        }
        sources: dict[str, str] | None = None
        if self.config_file.exists():
            differences = self._differences(config, fingerprint)
            if differences and self.begun:
                raise FaceganError(
                    f"`out={self.root}` belongs to another configuration ({'; '.join(differences)}): "
                    "name another folder, or give the same options to resume"
                )
            if differences:
                log.info("%s holds no snapshot of its other configuration, and starts over", self.root)
                self._forget()
            else:
                sources = self._sources()  # what it started from, whatever lies there now
            if self.outlasted:  # the record says what the weights have seen
                old = self.record()["config"]
                record["config"] = {**config.to_json(), **{name: old[name] for name in config.may_grow if name in old}}
        write_json(self.config_file, {**record, "sources": digests(config.to_json()) if sources is None else sources})

    def _sweep(self) -> None:
        """Remove what killed processes left behind; into the folders within the run only the one that has its lock writes."""
        sweep(self.root)
        for folder in (self.checkpoints, self.stages, self.root / "samples", self.root / "ids"):
            sweep(folder, alone=True)

    def _differences(self, config: TrainConfig, fingerprint: str) -> list[str]:
        """Between the run in this folder and another one, as far as they matter; what it does not say was the default in its time."""
        old, defaults = self.record(), type(config)().to_json()
        then = {**defaults, **old["config"]}
        free, known = FREE_TO_CHANGE | config.may_grow, self._sources()
        found = [
            f"`{name}` {shown(then[name])} there, {shown(value)} here"
            for name, value in config.to_json().items()
            if name not in free and then[name] != value and not same_network(name, then[name], value, known)
        ]
        return found + data_differences(old["data_fingerprint"], fingerprint, shown(then["data"]), shown(config.data))

    @property
    def begun(self) -> bool:
        """Whether it holds a finished stage or a snapshot: anything that took time to make."""
        return any(next(parent.glob(f"*/{checkpoint.METADATA}"), None) for parent in (self.stages, self.checkpoints))

    def _forget(self) -> None:
        """Remove what a run without a snapshot has written."""
        for folder in (self.root / "ids", self.root / "samples"):
            shutil.rmtree(folder, ignore_errors=True)
        self.metrics.unlink(missing_ok=True)

    def config(self) -> TrainConfig:
        """The options that all methods share, checked; `facegan.methods.config_of` has those of its method besides."""
        values, common = self.record()["config"], [item.name for item in fields(TrainConfig)]
        config: TrainConfig = checked({name: values[name] for name in common if name in values}, TrainConfig, self.config_file)
        try:
            config.check()
        except FaceganError as error:
            raise FaceganError(f"{self.config_file}: {error}") from None
        return config

    def record(self) -> Record:
        path = self.root / CONFIG
        try:
            return checked(read_json(path, RECORD_LIMIT), Record, path)
        except FaceganError as error:
            reason = f" ({error})" if path.exists() else ""
            raise FaceganError(f"{self.root} is not a run{reason}: expected a folder that `facegan train --out` made") from None

    def threads(self) -> int | None:
        """How many threads it computed with so far; None where that makes no difference yet, or was not noted."""
        if not (self.config_file.exists() and self.begun):
            return None
        return checked(dict(self.record()).get("threads", 0), Annotated[int, Range(0)], self.config_file, "threads") or None

    def _sources(self) -> dict[str, str]:
        """Digests of the networks that it started from, by their options; older versions noted none."""
        return checked(dict(self.record()).get("sources", {}), dict[str, str], self.config_file, "sources")

    # --- finished stages
    def finished(self, stage: str) -> bool:
        return (self.stages / stage / checkpoint.METADATA).exists()

    def finished_stages(self) -> list[str]:
        """In the order in which they ended."""
        done = [path.parent for path in self.stages.glob(f"*/{checkpoint.METADATA}")]
        return [path.name for path in sorted(done, key=lambda path: self.metadata(path.name)["order"])]

    def metadata(self, stage: str) -> dict[str, Any]:
        """What `finish` recorded of a stage, without reading its tensors: `StageMetadata`, and whatever else the stage had to say."""
        return checked(checkpoint.load_metadata(self.stages / stage), StageMetadata, self.stages / stage / checkpoint.METADATA)

    def load_stage(self, stage: str) -> tuple[dict, dict]:
        if not self.finished(stage):
            raise FaceganError(f"{self.root} has no finished stage {stage!r} (finished: {', '.join(self.finished_stages()) or 'none'})")
        self.metadata(stage)
        return checkpoint.load(self.stages / stage)

    def finish(self, stage: str, tensors: dict, metadata: dict, keep: int = 0) -> None:
        """`keep`: checkpoints that stay, the newest ones."""
        order = len([name for name in self.finished_stages() if name != stage])
        metadata = {**metadata, **lists.noted(self.root, stage), "order": order, "metrics_bytes": self._records.settled()}
        checkpoint.save(self.stages / stage, tensors, metadata)
        self._keep(stage, keep)

    def tidy(self, stage: str) -> None:
        """Remove checkpoints of a finished stage that a kill at its end left; the state that it ended in stays, to be continued from."""
        last = f"{stage}-{self.metadata(stage)['steps']:07d}"
        for path in self._checkpoints_of(stage):
            if path.name != last:
                remove_whole(path)

    def extend(self, stage: str, steps: int) -> None:
        """Continue a stage that has ended where it is to have more `steps` than it took; before `claim`.

        Raises:
            FaceganError: its state at the end was not kept.
        """
        if not self.finished(stage):
            return
        metadata = self.metadata(stage)
        length = f"{metadata['images'] / 1000:g} kimg, {metadata['steps']} steps"
        if metadata["steps"] >= steps:
            self.outlasted = metadata["steps"] > steps
            if self.outlasted:
                log.info("%s has finished after %s, more than the %d asked for: nothing is left to train", self.root, length, steps)
            return
        if not self._checkpoints_of(stage):
            raise FaceganError(
                f"`out={self.root}` has finished its training, after {length} of {steps}, and {self.checkpoints} holds no state of {stage} "
                "to resume from: ask for no more than that, or train with a new `out`"
            )
        self.extended.add(stage)

    # --- checkpoints of the running stage
    def save_checkpoint(self, stage: str, step: int, tensors: dict, metadata: dict, keep: int) -> None:
        metadata = {**metadata, "step": step, "metrics_bytes": self._records.settled()}
        checkpoint.save(self.checkpoints / f"{stage}-{step:07d}", tensors, metadata)
        self._keep(stage, keep)

    def _keep(self, stage: str, count: int) -> None:
        for path in self._checkpoints_of(stage)[: -count or None]:
            remove_whole(path)

    def newest_checkpoint(self, stage: str) -> tuple[dict, dict] | None:
        """The newest one that is whole. Raises FaceganError where there are some, and none is."""
        found = self.resumable(stage, rows=False)
        return found[1:] if found else None

    def resumable(self, stage: str, rows: bool = True) -> tuple[Path, dict, dict] | None:
        """The newest checkpoint that is whole, and (`rows`) whose rows of metrics are there; else the newest whole one.

        Raises:
            FaceganError: there are checkpoints, and none is whole.
        """
        damaged: list[FaceganError] = []
        candidates: list[tuple[Path, dict, dict]] = []
        paths = self._checkpoints_of(stage)[::-1]
        for path in paths:
            try:
                candidates.append((path, *checkpoint.load(path)))
            except FaceganError as error:
                damaged.append(error)
                continue
            if not rows or self._has_rows(candidates[-1][2]):
                break
        else:
            if paths and not candidates:
                raise FaceganError(
                    f"no checkpoint of {stage} is whole ({'; '.join(map(str, damaged))}): restore {self.checkpoints}, or remove "
                    f"its {len(paths)} folder(s) {stage}-* and run the same command again, which begins {stage} anew"
                )
            del candidates[1:]
        if not candidates:
            return None
        for reason in damaged:
            log.warning("%s: the checkpoint before it, %s, is taken", reason, candidates[-1][0].name)
        if len(candidates) > 1:
            log.warning(
                "%s was cut short or damaged, and has not all rows that %s counts: %s, whose rows are there, is taken, and steps since are "
                "repeated", self.metrics, candidates[0][0].name, candidates[-1][0].name,
            )  # fmt: skip
        return candidates[-1]

    def _has_rows(self, metadata: dict[str, Any]) -> bool:
        size = metadata.get("metrics_bytes")
        return not isinstance(size, int) or self._records.is_whole(size)

    def forget_after(self, stage: str, path: Path) -> None:
        """Remove checkpoints newer than the one that a run resumes from: they are damaged, or made again."""
        for newer in self._checkpoints_of(stage):
            if newer.name > path.name:
                remove_whole(newer)

    def newest_path(self, stage: str) -> Path | None:
        """Of the newest checkpoint."""
        return next(reversed(self._checkpoints_of(stage)), None)

    def _checkpoints_of(self, stage: str) -> list[Path]:
        # Seven digits, not *: with attributes `beard` and `beard-long` one stage's name begins like another's.
        return sorted(self.checkpoints.glob(glob.escape(stage) + "-" + "[0-9]" * 7))

    # --- records
    def metrics_bytes(self) -> int:
        return self._records.size()

    def rewind_metrics(self, size: int) -> None:
        """Forget the rows written after the state that a resumed run starts from."""
        self._records.rewind(size)

    def append_metrics(self, row: dict[str, Any]) -> None:
        self._records.append(row)

    def metrics_rows(self) -> list[dict[str, Any]]:
        return self._records.rows()

    def write_ids(self, stage: str, ids: list[str]) -> None:
        """The images that a stage learns from, for anyone who doubts what it saw."""
        write_whole(lists.list_of(self.root, stage), "\n".join(sorted(ids)) + "\n")

    def ids(self, stage: str) -> list[str]:
        """What `write_ids` wrote."""
        return read_text(lists.list_of(self.root, stage)).splitlines()


def shown(value: Any) -> str:
    """A flag's value, for a message."""
    return f"'{quoted(value)}'" if isinstance(value, str) else quoted(value)


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")
