"""TensorBoard's events of a run, in OUT/tensorboard: what metrics.jsonl holds, and nothing twice.

All stages share the folder and count from 0, so no step says which events are of a life that was cut off. The events are therefore written
anew when a run is resumed, from the rows that metrics.jsonl keeps, each with the time at which it was written.
"""

from __future__ import annotations

import io
import logging
import os
import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as summaries

from facegan.files import write_whole

log = logging.getLogger("facegan.train")

FOLDER = "tensorboard"
KEPT = "kept.rows"  # what is to become a file of events; by this name no TensorBoard reads it
Row = Mapping[str, Any]


class Events:
    """A file of events, opened when it is known what a run goes on from; every row is one event."""

    def __init__(self, root: Path, options: Mapping[str, Any]) -> None:
        """`options` of the run, which the HPARAMS page shows."""
        self.folder = root / FOLDER
        self.options = {name: value for name, value in options.items() if isinstance(value, (int, float, str, bool))}
        self._file: IO[bytes] | None = None

    def begin(self, rows: Iterable[Row]) -> None:
        """Make the folder hold these rows; later calls do nothing."""
        if self._file:
            return
        before, times = files_in(self.folder), times_in(self.folder)
        path = self.folder / _name_after(before)
        write_whole(self.folder / KEPT, b"".join(map(_record, self._kept(rows, times))))
        os.replace(self.folder / KEPT, path)
        # A TensorBoard that looks on follows from file to file by name, and is lost where the one that it reads is gone: that is emptied.
        for file in before[:-1]:
            file.unlink(missing_ok=True)
        for file in before[-1:]:
            os.truncate(file, 0)
        self._file = open(path, "ab")

    def add(self, row: Row) -> None:
        """A row more."""
        if self._file:
            self._file.write(_record(Event(wall_time=time.time(), step=row["step"], summary=summary_of(row))))
            self._file.flush()

    def close(self) -> None:
        """The file is whole."""
        if self._file:
            self._file.close()
            self._file = None

    def _kept(self, rows: Iterable[Row], times: Mapping[tuple[str, int], float]) -> Iterator[Event]:
        now = time.time()
        yield Event(wall_time=now, file_version="brain.Event:2")
        yield Event(wall_time=now, session_log=SessionLog(status=SessionLog.START))  # what was read before is to be forgotten
        for part in summaries.hparams(self.options, {}):
            yield Event(wall_time=now, summary=part)
        for row in rows:
            yield Event(wall_time=times.get((row["stage"], row["step"]), now), step=row["step"], summary=summary_of(row))


def summary_of(row: Row) -> Any:
    """The numbers of a row, each as STAGE/NAME."""
    found = summaries.Summary()
    for name, value in row.items():
        if isinstance(value, float):
            found.MergeFrom(summaries.scalar(f"{row['stage']}/{name}", value))
    return found


def files_in(folder: Path) -> list[Path]:
    """In the order in which they were begun."""
    return sorted(folder.glob("*tfevents*"))


def times_in(folder: Path) -> dict[tuple[str, int], float]:
    """When the events of each (stage, step) were last written, seconds since 1970; of files that can be read."""
    found: dict[tuple[str, int], float] = {}
    files = files_in(folder)
    if files:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    for file in files:
        try:
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    found[value.tag.partition("/")[0], event.step] = event.wall_time
        except Exception as error:  # a damaged file costs times, no values
            log.info("%s: %s: times of its events are lost", file, type(error).__name__)
    return found


def _name_after(files: Sequence[Path]) -> str:
    """Of a file that TensorBoard reads after these, also where the clock was set back."""
    last = re.match(r"events\.out\.tfevents\.(\d{1,12})\b", files[-1].name) if files else None
    begun = max(int(time.time()), int(last[1]) + 1 if last else 0)
    return f"events.out.tfevents.{begun:010d}.{platform.node()}.{os.getpid()}"


def _record(event: Event) -> bytes:
    """As it stands in a file: its length and its bytes, each with a checksum."""
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
