"""Images that are decoded as they are needed: where all of them, decoded, would take more than the disk or the memory has.

`StreamedImages` stands where an array uint8 [N, 3, R, R] does. Which rows a batch has is decided elsewhere, as for an array, so
training is the same to the bit. A file that turns out to be no picture has another one of the same request or set in its place: always
the same one, as it depends on the files alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from facegan.data.decoder import UNREAD, Piece
from facegan.data.decoders import Answer, Decoders, usual_processes
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import quoted

log = logging.getLogger("facegan.data")

TRIED = 64  # files after one that is no picture, until the data set counts as damaged


@dataclass
class Request:
    """Rows on their way."""

    rows: np.ndarray  # int64 [n]
    out: np.ndarray  # uint8 [n, 3, R, R], complete when all is answered
    answers: list[Future[list[Answer]]]

    def forget(self) -> None:
        for answer in self.answers:
            answer.cancel()


class StreamedImages:
    """The images of a data set, uint8 [N, 3, R, R], decoded anew whenever they are asked for.

    Indexed as an array is by a number, a slice, or int64 or bool arrays, of which the first index picks images; always copies.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, source: Source, members: Sequence[str], resolution: int, labels: np.ndarray, processes: int = 0) -> None:
        """`labels` float [N, C]: who stands in for whom."""
        self.source, self.members, self.labels = source, tuple(members), labels
        self.shape = (len(self.members), 3, resolution, resolution)
        self.decoders = Decoders(processes or usual_processes())
        self.bad: dict[int, str] = {}  # rows that turned out to be no picture, and why
        self._told: set[int] = set()  # those of them that the log has named

    @property
    def nbytes(self) -> int:
        """What they would take decoded."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> np.ndarray:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        rows = np.arange(len(self))[first]
        images = self.take(rows.reshape(-1)).reshape(*rows.shape, *self.shape[1:])
        return images[(slice(None),) * rows.ndim + rest] if rest else images

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(f"{self.nbytes / 2**30:.1f} GiB of images are streamed, and are no array: take some of them, images[rows]")

    def take(self, rows: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Images at int64 `rows` [n], uint8 [n, 3, R, R]. Raises FaceganError as `finish` does."""
        return self.finish(self.start(rows), among)

    def start(self, rows: np.ndarray) -> Request:
        """Have rows decoded meanwhile."""
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        names = [self.members[row] for row in rows.tolist()]
        return Request(rows, out, self.decoders.submit([self._piece(name) for name in names], names, out))

    def _piece(self, name: str) -> Piece | bytes:
        try:
            return self.source.piece(name)
        except Exception:  # too large, or an archive's member that cannot be unpacked: no picture
            return b""

    def finish(self, request: Request, among: np.ndarray | None = None) -> np.ndarray:
        """What was asked for, once it is there.

        `among`: the rows from which stand-ins may come; the request's own where not given. Raises FaceganError where a file can be
        read no more, where none can stand in, and where decoding processes keep ending.
        """
        answers = [answer for future in request.answers for answer in future.result()]
        for place, answer in enumerate(answers):
            if answer is not None:
                request.out[place] = self._instead(int(request.rows[place]), *answer, request.rows if among is None else among)
        return request.out

    def tried(self, rows: np.ndarray) -> list[str | None]:
        """Per row why its file cannot be decoded, or None; raises FaceganError as `finish` does for files that can be read no more."""
        answers = [answer for future in self.start(rows).answers for answer in future.result()]
        for row, answer in zip(rows.tolist(), answers, strict=True):
            if answer is not None:
                self._refuse_unread(row, *answer)
        return [None if answer is None else answer[1] for answer in answers]

    def _decoded(self, row: int) -> tuple[np.ndarray, Answer]:
        request = self.start(np.array([row]))
        return request.out[0], request.answers[0].result()[0]

    def _instead(self, row: int, kind: int, why: str, among: np.ndarray) -> np.ndarray:
        """The image of a row whose file could not be decoded: another's, or after all its own where only reading it failed."""
        if kind == UNREAD:
            image, again = self._decoded(row)
            if again is None:
                return image
            kind, why = again
            self._refuse_unread(row, kind, why)
        self.bad[row] = why
        for other in self._stand_ins(row, among):
            image, answer = self._decoded(other)
            if answer is None:
                if row not in self._told:
                    self._told.add(row)
                    log.warning("%s is no picture (%s): %s stands in for it", *map(quoted, (self.members[row], why, self.members[other])))
                return image
            self._refuse_unread(other, *answer)
            self.bad[other] = answer[1]
        examples = [f"{quoted(self.members[each])}: {reason}" for each, reason in self.bad.items()]
        raise FaceganError(
            f"{self.source.path}: {len(self.bad)} image(s) cannot be decoded, such as {examples[0]}, and none stands in for "
            f"{quoted(self.members[row])}: `facegan data inspect --check-images` finds all of them; move them away"
        )

    def _refuse_unread(self, row: int, kind: int, why: str) -> None:
        if kind == UNREAD:  # no property of the data: a run that went on with another image could not be repeated
            raise FaceganError(
                f"{self.source.path}: {quoted(self.members[row])} can be read no more ({why}): when it can be again, the same command "
                "goes on from the last snapshot"
            )

    def _stand_ins(self, row: int, among: np.ndarray) -> list[int]:
        """Rows of the set that follow this one in the data's order, those with the same labels first."""
        others = np.unique(among)
        others = np.roll(others, -int(np.searchsorted(others, row, side="right")))
        others = others[(others != row) & ~np.isin(others, list(self.bad))]
        alike = self._kinds[others] == self._kinds[row]
        picked: list[int] = np.concatenate([others[alike], others[~alike]])[:TRIED].tolist()
        return picked

    @cached_property
    def _kinds(self) -> np.ndarray:
        """int64 [N]: rows with equal labels have equal numbers."""
        return np.unique(np.nan_to_num(self.labels, nan=-1.0), axis=0, return_inverse=True)[1].reshape(-1)
