"""`facegan data align`: folders of photographs to a folder of faces, a few photos at a time, where the same call resumes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
from PIL import Image
from tqdm.auto import tqdm

from facegan.alignment.contact import contact_sheet
from facegan.alignment.detector import Detector
from facegan.alignment.face import NO_FACE, UNREADABLE, FaceRow, measured, unfit
from facegan.alignment.geometry import crop
from facegan.alignment.journal import FOLDER, Journal, is_below, stamp_of
from facegan.alignment.labels import Labels, corrected, joined, metadata, read_labels
from facegan.alignment.names import Job, file_of, find_photos, named
from facegan.alignment.photos import Photo, read_photo
from facegan.alignment.selection import Aligned, selected
from facegan.data.photos import image_files
from facegan.errors import FaceganError
from facegan.files import read_json, read_text, write_whole
from facegan.locks import held
from facegan.options import AlignOptions, DataAlign
from facegan.plotting.sheets import is_whole_png, save_png
from facegan.schema import checked

log = logging.getLogger("facegan.align")

TABLE, SHEET, METADATA = "faces.csv", "contact-sheet.png", "metadata.csv"
WORKERS = 8  # photos worked on side by side, at most: each takes up to 72 MB, and what the networks need
NAMED = 20  # unreadable photos named in the log; faces.csv has all
LOOK = 0.75  # faces are looked for down to this share of the smallest side, to be told that they are there but small
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Curated(TypedDict):
    """Files of the folder of faces when the last call ended, and those that a person had removed."""

    taken: list[str]
    removed: list[str]
    metadata: str  # digest of the metadata.csv that it wrote


def align_folder(options: DataAlign) -> Aligned:
    """Cut the faces out of the photos into `out`.

    Raises:
        FaceganError: there are no photos, options make no sense, or another call writes into `out`, before any work.
        OSError: `out` cannot be written; what is there is whole, and the same call resumes.
    """
    if not options.out:
        raise FaceganError("`out` is empty: expected a folder for the faces, such as . for the current one")
    out = Path(options.out)
    if options.dry_run:
        return _align(options, out, write=False)
    with held(out, deep=True):
        return _align(options, out, write=True)


def _align(options: DataAlign, out: Path, write: bool) -> Aligned:
    journal, curated = Journal(out, {name: getattr(options, name) for name in ("size", "min_score", "min_side")}), _curated(out)
    jobs = find_photos(options.photos, out)
    journal.follow([job.path for job in jobs])
    jobs = named(jobs, {row.file: photo for photo, (_, rows) in journal.entries.items() for row in rows})
    if not journal.path.exists():
        _refuse_others(out, jobs)
    labels = read_labels(options.attributes_from, options.photos, [job.path for job in jobs]) if options.attributes_from else None
    if labels is not None and _changed(out, curated["metadata"]):
        corrected(metadata(labels, []), read_text(out / METADATA), out / METADATA)  # refuses now what it would after the work
    if journal.restarted:
        log.warning("%s was made with other settings, or its notes are damaged: all photos are looked at again", out)
    made = [*filter(is_below, curated["taken"]), *(row.file for _, rows in journal.entries.values() for row in rows)]
    removed = {file for file in (*curated["removed"], *curated["taken"]) if not (out / file).exists()}  # before faces are written
    rows, moved = _rows(jobs, journal, options, removed)
    removed |= {moved[file] for file in removed & moved.keys()}
    only_largest = options.faces == "largest" or (options.faces == "auto" and labels is not None)
    chosen = selected(rows, options, only_largest, removed)
    for row in [row for row in chosen if row.reason.startswith(UNREADABLE)][:NAMED]:
        log.warning("left out: %s: %s", row.source, row.reason.removeprefix(UNREADABLE).strip())
    files = _Files(out, [row.file for row in chosen if not row.reason])
    result = Aligned(tuple(chosen), files, len({row.source for row in rows}), options, out)
    if write:
        now = {str(job.path.resolve()) for job in jobs}
        earlier = {row.file for row in result.taken if str(Path(row.source).resolve()) not in now}
        listed = _metadata(result, labels, out, curated["metadata"], moved, earlier)
        made += [row.file for row in rows]
        _write(result, [file for file in made if file], _Curated(taken=[], removed=sorted(removed), metadata=listed), out)
    return result


def _refuse_others(out: Path, jobs: Sequence[Job]) -> None:
    """FaceganError where a folder that alignment has not written has files of the names that it would write."""
    for file in (TABLE, SHEET, *(file_of(job.name, 0) for job in jobs)):
        if (out / file).exists():
            raise FaceganError(f"{out / file} is there already, and is not of `facegan data align`: move it away, or name another `out`")


def _rows(jobs: Sequence[Job], journal: Journal, options: DataAlign, removed: Collection[str]) -> tuple[list[FaceRow], dict[str, str]]:
    """The rows of all photos: those noted, those looked at now, which are noted, and those of photos that earlier calls named.

    And what faces are called now, by what they were called. `removed`: files that a person took out of the folder of faces.
    """
    write, detector = not options.dry_run, Detector(options.device)
    work = [job for job in jobs if journal.known(job.path) is None]
    if len(work) < len(jobs):
        log.info("%d of %d photos are done already", len(jobs) - len(work), len(jobs))
    fresh: dict[Path, list[FaceRow]] = {}
    moved: dict[str, str] = {}
    if write and work:
        journal.start()
    try:
        for job in jobs:  # an earlier call may have named other folders, so that faces had other names, or been given elsewhere
            known = journal.known(job.path) or []
            if known != (renamed := _renamed(known, job)):
                fresh[job.path] = renamed
                moved |= {old.file: new.file for old, new in zip(known, renamed, strict=True) if old.file != new.file}
                if write:
                    journal.add(job.path, stamp_of(job.path), renamed)
        for job, stamp, rows in _processed(work, detector, options, Path(options.out) if write else None, removed):
            fresh[job.path] = rows
            if write:
                journal.add(job.path, stamp, rows)
    finally:
        journal.close()
    now = {str(job.path.resolve()) for job in jobs}
    every = [row for job in jobs for row in fresh.get(job.path) or journal.known(job.path) or ()]
    return every + [_sourced(row, photo) for photo, (_, some) in journal.entries.items() if photo not in now for row in some], moved


def _changed(out: Path, last: str) -> bool:
    """Whether there is a metadata.csv that is not the one last written."""
    path = out / METADATA
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != last


def _metadata(result: Aligned, labels: Labels | None, out: Path, last: str, moved: Mapping[str, str], earlier: Collection[str]) -> str:
    """Write metadata.csv, if labels are known; of one that a person has changed since (its digest is not `last`) the rows stay, of others
    those of faces whose photos `earlier` calls named.

    `moved`: what faces are called now. Returns the digest of what was written, which is `last` where nothing was.
    """
    path = out / METADATA
    if labels is None:
        if path.exists():
            log.warning("%s is left as it is: faces that came since have no row there", path)
        return last
    alone = Counter(row.source for row in result.taken)
    text = metadata(labels, [(row.file, row.source, alone[row.source] == 1) for row in result.taken])
    by_hand = _changed(out, last)
    if by_hand:
        text = corrected(text, read_text(path, what="metadata.csv"), path, moved)
        log.info("%s was changed by hand: its rows are kept", path)
    elif path.exists() and earlier:
        text = joined(text, read_text(path, what="metadata.csv"), path, moved, earlier)
    write_whole(path, text)
    return "" if by_hand else hashlib.sha256(text.encode()).hexdigest()


def align_photos(photos: Sequence[Photo | str], options: AlignOptions, device: str) -> Aligned:
    """The faces of photos, or of the files and folders at paths, kept in memory. FaceganError as `align_folder`."""
    items: list[tuple[Job, Photo | Path]] = []
    for number, photo in enumerate(photos):
        if isinstance(photo, Photo):
            items.append((Job(Path(f"picture {number}"), f"picture{number:04d}"), photo))
        else:
            items += [(Job(file, name), file) for file, name in image_files([photo])]
    detector, rows, faces = Detector(device), list[FaceRow](), dict[int, Image.Image]()
    jobs = named([job for job, _ in items], {})
    for (path, name), item in zip(jobs, (item for _, item in items), strict=True):
        source = str(path)
        try:
            found = list(faces_of(item if isinstance(item, Photo) else read_photo(item), source, name, detector, options))
        except FaceganError as error:
            rows.append(FaceRow(source, reason=f"{UNREADABLE} {error}"))
            continue
        for row, face in found:
            faces[len(rows)] = face
            rows.append(row)
        if not found:
            rows.append(FaceRow(source, reason=NO_FACE))
    chosen = selected(rows, options, options.faces == "largest")
    pictures = [faces[i] for i, row in enumerate(chosen) if not row.reason]
    return Aligned(tuple(chosen), pictures, len(items), options)


class _Files(Sequence[Any]):
    """Pictures of a folder, opened as they are asked for."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return read_photo(self.folder / self.names[index]).image


# --- what earlier calls noted


def _renamed(rows: Sequence[FaceRow], job: Job) -> list[FaceRow]:
    """Rows of a photo as this call names it, and its faces."""
    source = str(job.path)
    return [replace(row, source=source, file="" if row.face is None else file_of(job.name, row.face)) for row in rows]


def _sourced(row: FaceRow, photo: str) -> FaceRow:
    """A row of a photo that an earlier call named, with its whole path where that call was given in another folder."""
    return row if str(Path(row.source).resolve()) == photo else replace(row, source=photo)


# --- photo by photo


def _processed(
    jobs: Sequence[Job], detector: Detector, options: AlignOptions, out: Path | None, removed: Collection[str]
) -> Iterator[tuple[Job, list[int], list[FaceRow]]]:
    """(photo, stamp, rows) in order; the faces that may be taken are written to `out`, if there is one, but for those `removed` by hand."""

    def one(job: Job) -> tuple[Job, list[int], list[FaceRow]]:
        stamp = stamp_of(job.path)  # before it is read, so that what changes meanwhile is looked at again
        try:
            photo = read_photo(job.path)
        except FaceganError as error:
            return job, stamp, [FaceRow(str(job.path), reason=f"{UNREADABLE} {error}")]
        rows = []
        for row, face in faces_of(photo, str(job.path), job.name, detector, options):
            rows.append(row)
            if out and row.file not in removed and not unfit(row, options):
                save_png(face, out / row.file, compress_level=2)
        return job, stamp, rows or [FaceRow(str(job.path), reason=NO_FACE)]

    taken = 0
    with tqdm(total=len(jobs), desc="aligning", unit="photo", disable=None) as bar:
        for job, stamp, rows in side_by_side(one, jobs):
            taken += sum(not row.reason and not unfit(row, options) for row in rows)
            bar.set_postfix(faces=taken, refresh=False)
            bar.update()
            yield job, stamp, rows


def faces_of(photo: Photo, source: str, name: str, detector: Detector, options: AlignOptions) -> Iterator[tuple[FaceRow, Image.Image]]:
    """The faces of a photo, largest first: what was measured, and the picture."""
    [found] = detector([photo.image], LOOK * options.smallest_side / photo.scale)
    for number, face in enumerate(each for each in found if each.score >= options.min_score):
        yield measured(photo, face, source, number, file_of(name, number), options)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order; items are worked on by as many threads as PyTorch would have, each with one of its own.

    What has not begun when the reader stops is dropped.
    """
    workers = min(WORKERS, max(1, torch.get_num_threads()))
    waiting: list[Future[Result]] = []
    with _one_thread_each(workers), ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _one_thread_each(workers: int) -> Iterator[None]:
    """PyTorch's own threads off, as those of several operators at a time would wait for one another."""
    threads = torch.get_num_threads()
    try:
        if workers > 1:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


# --- the folder


def _write(result: Aligned, made: Sequence[str], curated: _Curated, out: Path) -> None:
    """The faces that are taken, and none of the others that were `made`; faces.csv; the sheet."""
    taken = {row.file for row in result.taken}
    for row in result.taken:
        if not is_whole_png(out / row.file):  # left out by an earlier call, cut off before it was noted, or cut short since
            try:
                photo = read_photo(Path(row.source))
                save_png(crop(photo.image, row.square().scaled(1 / photo.scale), result.options.size), out / row.file, compress_level=2)
            except FaceganError as error:
                log.warning("%s is missing, and cannot be made again: %s", out / row.file, error)
    for file in {*made} - taken:
        (out / file).unlink(missing_ok=True)
    write_whole(out / TABLE, result.table())
    save_png(contact_sheet(result.rows, out), out / SHEET)
    write_whole(out / FOLDER / "taken.json", json.dumps({**curated, "taken": sorted(taken)}))


def _curated(out: Path) -> _Curated:
    path = out / FOLDER / "taken.json"
    if not path.exists():
        return _Curated(taken=[], removed=[], metadata="")
    try:
        known: _Curated = checked(read_json(path), _Curated, path)
    except FaceganError as error:
        raise FaceganError(f"{error}: delete it, and the same call takes the faces again that were removed by hand") from None
    return known
