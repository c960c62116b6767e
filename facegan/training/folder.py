"""The folder of a run: configuration, metrics, checkpoints, finished stages, pictures.

    config.json  metrics.jsonl  ids/<stage>.txt  samples/<stage>-0000200.png
    checkpoints/<stage>-0000200/   while a stage runs          stages/<stage>/   when it has ended
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from pathlib import Path
from typing import Any

from facegan import __version__
from facegan.errors import FaceganError
from facegan.files import write_whole
from facegan.training import checkpoint
from facegan.training.config import TrainConfig, from_json

# These do not change what a step computes.
FREE_TO_CHANGE = {"out", "device", "cuda_graphs", "compile", "keep_checkpoints", "kimg", "accumulate"}


class RunFolder:
    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.checkpoints, self.stages = self.root / "checkpoints", self.root / "stages"
        self.metrics = self.root / "metrics.jsonl"

    # --- configuration
    def claim(self, config: TrainConfig, fingerprint: str) -> None:
        """Write config.json into a new folder; in an old one check that it is the same run."""
        record = {"facegan": __version__, "config": config.to_json(), "data_fingerprint": fingerprint}
        path = self.root / "config.json"
        if path.exists():
            self._compare(self.record(), record)
            return write_json(path, record)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if any(item for item in self.root.iterdir() if not item.name.startswith(".")):
                raise FaceganError(f"--out {self.root} holds other files and no config.json: name a new or empty folder")
            write_json(path, record)
        except OSError as error:
            raise FaceganError(f"--out {self.root} cannot be written ({error}): name a folder where you may write") from error

    def _compare(self, old: dict, new: dict) -> None:
        differences = [
            f"--{name.replace('_', '-')} {old['config'].get(name)!r} there, {value!r} here"
            for name, value in new["config"].items()
            if name not in FREE_TO_CHANGE and old["config"].get(name) != value
        ]
        if old["data_fingerprint"] != new["data_fingerprint"]:
            differences.append("the images or labels under --data changed")
        if differences:
            raise FaceganError(
                f"--out {self.root} belongs to another configuration ({'; '.join(differences)}): "
                "name another folder, or give the same flags to resume"
            )

    def config(self) -> TrainConfig:
        try:
            return from_json(self.record()["config"])
        except (TypeError, KeyError) as error:
            raise FaceganError(f"{self.root} is of another version of facegan ({error}): use that one, or train anew") from error

    def record(self) -> dict:
        path = self.root / "config.json"
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            record = {}
        if not isinstance(record, dict) or not {"config", "data_fingerprint"} <= record.keys():
            raise FaceganError(f"{self.root} is not a run: expected a folder that `facegan train --out` made")
        return record

    # --- finished stages
    def finished(self, stage: str) -> bool:
        return (self.stages / stage / checkpoint.FACTS).exists()

    def finished_stages(self) -> list[str]:
        """In the order in which they ended."""
        done = [path.parent for path in self.stages.glob(f"*/{checkpoint.FACTS}")]
        return [path.name for path in sorted(done, key=lambda path: checkpoint.load_facts(path)["order"])]

    def facts(self, stage: str) -> dict:
        """What `finish` recorded of a stage, without reading its tensors."""
        return checkpoint.load_facts(self.stages / stage)

    def load_stage(self, stage: str) -> tuple[dict, dict]:
        if not self.finished(stage):
            raise FaceganError(f"{self.root} has no finished stage {stage!r} (finished: {', '.join(self.finished_stages()) or 'none'})")
        return checkpoint.load(self.stages / stage)

    def finish(self, stage: str, tensors: dict, facts: dict) -> None:
        facts = {**facts, "order": len(self.finished_stages()), "metrics_bytes": self.metrics_bytes()}
        checkpoint.save(self.stages / stage, tensors, facts)
        for path in self._checkpoints_of(stage):
            shutil.rmtree(path, ignore_errors=True)

    # --- checkpoints of the running stage
    def save_checkpoint(self, stage: str, step: int, tensors: dict, facts: dict, keep: int) -> None:
        facts = {**facts, "step": step, "metrics_bytes": self.metrics_bytes()}
        checkpoint.save(self.checkpoints / f"{stage}-{step:07d}", tensors, facts)
        for path in self._checkpoints_of(stage)[:-keep]:
            shutil.rmtree(path, ignore_errors=True)

    def newest_checkpoint(self, stage: str) -> tuple[dict, dict] | None:
        paths = self._checkpoints_of(stage)
        return checkpoint.load(paths[-1]) if paths else None

    def _checkpoints_of(self, stage: str) -> list[Path]:
        # Seven digits, not *: with attributes `beard` and `beard-long` one stage's name begins like another's.
        return sorted(self.checkpoints.glob(glob.escape(stage) + "-" + "[0-9]" * 7))

    # --- records
    def metrics_bytes(self) -> int:
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def rewind_metrics(self, size: int) -> None:
        """Forget the rows written after the state that a resumed run starts from."""
        if self.metrics_bytes() > size:
            os.truncate(self.metrics, size)

    def append_metrics(self, row: dict[str, Any]) -> None:
        with open(self.metrics, "a") as handle:
            handle.write(json.dumps(row) + "\n")

    def write_ids(self, stage: str, ids: list[str]) -> None:
        """The images that a stage learns from, for anyone who doubts what it saw."""
        path = self.root / "ids" / f"{stage}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(sorted(ids)) + "\n")

    def ids(self, stage: str) -> list[str]:
        """What `write_ids` wrote."""
        return (self.root / "ids" / f"{stage}.txt").read_text().splitlines()


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")
