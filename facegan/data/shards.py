"""WebDataset shards (Aizman et al. 2019): tar archives in which the files of one sample share a name up to its first dot.

`faces/000017.jpg` and `faces/000017.json` are one face and its labels; `.cls` holds a class, by number or by name. Shards are given as
one .tar, a folder of them, a brace pattern such as `faces-{000..099}.tar`, or an http(s) address of either, which is fetched once
(`download`). Each is read through once, headers and labels alone, and what was found is kept in the cache: any image is then one read away.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from facegan.data.decoder import Piece
from facegan.data.download import fetched
from facegan.data.formats import IMAGE_LIMIT, suffixes
from facegan.data.images import cache_directory, content_key
from facegan.data.layouts import LAYOUTS, Rows, imagefolder
from facegan.data.lists import MOST_ROWS, bounded
from facegan.data.sources import CHECKED, Source, _relative, _visible
from facegan.errors import FaceganError
from facegan.files import parse_json, quoted, read_json, regular_file, write_whole
from facegan.schema import checked

VERSION = 1  # raise when an index changes: older ones are then made again
MOST_SHARDS = 100_000
_LABELS = (".json", ".cls")
_LABEL_LIMIT = 64 << 10  # bytes of one sample's labels
_INDEX_LIMIT = 2 << 30  # bytes of an index, which facegan wrote
_HEADER_LIMIT = 1 << 20  # bytes that one header of a tar may have
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters or more: one is a drive of Windows
_BRACES = re.compile(r"\{[^{}]*(,|\.\.)[^{}]*\}")


@dataclass
class Index:
    """What a shard holds: regular files, in its order, and the text of those that are labels."""

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    checks: list[int]  # CRC-32 of the first `CHECKED` bytes
    texts: dict[str, str]


def names_shards(data: str | Path) -> bool:
    """Whether `data` means shards: an address, a .tar, a brace pattern, or a folder of .tar and nothing else but texts.

    Raises FaceganError for addresses of other kinds than http and https, such as commands for a shell, which WebDataset knows.
    """
    text = str(data)
    scheme = _SCHEME.match(text)
    if scheme and not Path(text).exists():
        if scheme[1].lower() not in ("http", "https"):
            raise FaceganError(
                f"`data` is {quoted(text)}: expected a path, or the http(s) address of shards, such as https://host/faces-{{000..009}}.tar"
            )
        return True
    path = Path(text).expanduser()
    if path.is_dir():
        return bool(_tars(path)) and not any(child.is_dir() or child.suffix.lower() in suffixes() for child in path.iterdir())
    return text.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")) or (
        not path.exists() and bool(_BRACES.search(text))
    )


def _tars(folder: Path) -> list[str]:
    return sorted(str(child) for child in folder.iterdir() if child.suffix == ".tar" and not child.name.startswith("."))


def listed_shards(data: str | Path) -> list[str]:
    """The paths or addresses that `data` means, in order; raises FaceganError for none, and for compressed ones."""
    path = Path(str(data)).expanduser()
    if path.is_dir():
        return _tars(path)
    found = [str(data)]
    if not path.exists() and _BRACES.search(str(data)):
        try:
            from braceexpand import braceexpand
        except ImportError as error:
            raise FaceganError(f"`data` is a pattern of shards, which needs pip install 'facegan[webdataset]' ({error})") from error
        try:
            found = list(islice(braceexpand(str(data)), MOST_SHARDS + 1))
        except ValueError as error:
            raise FaceganError(
                f"`data` is {quoted(data)}, no pattern of shards ({error}): expected one such as faces-{{000..009}}.tar"
            ) from None
        if len(found) > MOST_SHARDS:
            raise FaceganError(f"`data` is {quoted(data)}: expected at most {MOST_SHARDS:,} shards")
    compressed = [name for name in found if not name.partition("?")[0].endswith(".tar")]
    if compressed:
        raise FaceganError(
            f"{quoted(compressed[0])}: expected shards that end in .tar; a compressed one cannot be read at any place: unpack it"
        )
    return found


class ShardSource(Source):
    """The files of one or more shards under their names there; with the shard's before them where two shards have the same."""

    def __init__(
        self, data: str | Path, *, cache_dir: str | Path | None = None, download_limit: int | None = None, progress: bool = True
    ) -> None:
        shards = listed_shards(data)
        self.remote = [shard for shard in shards if _SCHEME.match(shard) and not Path(shard).exists()]
        self.path = Path(re.sub(r"^https?://|\?.*$", "", str(data)))
        self._cache = cache_directory(cache_dir)
        if self.remote:
            shards = [str(path) for path in fetched(self.remote, self._cache / "shards", download_limit, progress)]
        files = [Path(shard).expanduser() for shard in shards]
        with (
            ThreadPoolExecutor(4) as pool,
            tqdm(total=len(files), desc="indexing", unit="shard", disable=None if progress else True) as bar,
        ):
            indices = []
            for index in pool.map(self._index, files):
                bar.update()
                indices.append(index)
        count = sum(len(index.names) for index in indices)
        if count > 4 * MOST_ROWS:
            raise FaceganError(f"{self.path}: {count:,} files; expected at most {4 * MOST_ROWS:,}")
        apart = len(files) > 1 and max(Counter(name for index in indices for name in index.names).values(), default=0) > 1
        self._places: dict[str, tuple[int, int]] = {}
        self._indices, self._files = indices, [str(file) for file in files]
        self.labels: dict[str, str] = {}
        for shard, (file, index) in enumerate(zip(files, indices, strict=True)):
            before = f"{file.stem}/" if apart else ""
            for place, name in enumerate(index.names):
                if self._places.setdefault(before + name, (shard, place)) != (shard, place):
                    raise FaceganError(f"{self.path}: {quoted(before + name)} is there twice; rename one of the shards, or of the files")
            self.labels |= {before + name: text for name, text in index.texts.items()}
        self.names, self.lost = _visible(self._places)

    def _index(self, file: Path) -> Index:
        """A shard's index, from the cache or made now."""
        regular_file(file, 1 << 62, "shard, a .tar archive")
        status = file.stat()
        kept = self._cache / "shards" / f"{content_key('index', VERSION, str(file.resolve()), status.st_size, status.st_mtime_ns)}.json"
        try:
            return checked(read_json(kept, _INDEX_LIMIT), Index, kept)
        except FaceganError:  # absent, or damaged since
            index = indexed(file)
        try:
            write_whole(kept, json.dumps(asdict(index)))
        except OSError:  # it is made again the next time
            pass
        return index

    def _at(self, name: str) -> tuple[str, int, int, int]:
        shard, place = self._places[name]
        index = self._indices[shard]
        return self._files[shard], index.offsets[place], index.sizes[place], index.checks[place]

    def piece(self, name: str) -> Piece | bytes:
        file, offset, size, _ = self._at(name)
        if size > IMAGE_LIMIT:
            raise FaceganError(f"{self.path}: {quoted(name)} has {size:,} bytes; expected at most {IMAGE_LIMIT:,}")
        return Piece(file, offset, size)

    def check(self, name: str) -> int:
        return self._at(name)[3]

    def read(self, name: str, most: int = IMAGE_LIMIT) -> bytes:
        path, offset, size, _ = self._at(name)
        if size > most:
            raise FaceganError(f"{self.path}: {quoted(name)} has {size:,} bytes; expected at most {most:,}")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def stamp(self, name: str) -> tuple[int, int]:
        _, _, size, check = self._at(name)
        return size, check


class _Bounded(io.RawIOBase):
    """A file of which no more is read at once than a header has: the lengths that an archive tells may be anything."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def indexed(path: Path) -> Index:
    """Read through a shard: headers, labels, and the first bytes of every file. Raises FaceganError where it is damaged."""
    index = Index([], [], [], [], {})
    try:
        with open(path, "rb") as file, open(path, "rb") as content, tarfile.open(fileobj=_Bounded(file), mode="r:") as archive:
            end = path.stat().st_size
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError(f"cut off in {quoted(member.name)}")
                name, labels = _relative(member.name), member.name.endswith(_LABELS)
                content.seek(member.offset_data)
                start = content.read(min(member.size, _LABEL_LIMIT if labels else CHECKED))
                index.names.append(name)
                index.offsets.append(member.offset_data)
                index.sizes.append(member.size)
                index.checks.append(zlib.crc32(start[:CHECKED]))
                if labels:
                    if member.size > _LABEL_LIMIT:
                        raise FaceganError(f"{path}: {quoted(name)} has {member.size:,} bytes; expected at most {_LABEL_LIMIT:,} of labels")
                    index.texts[name] = start.decode("utf-8-sig", "replace")
            content.seek(archive.offset)
            if content.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:  # tarfile takes whatever it cannot read for the end
                raise tarfile.ReadError("its end is missing")
    except FaceganError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise FaceganError(
            f"{path}: expected a shard, a .tar archive, but it is damaged or none ({quoted(str(error))}): fetch or write it again"
        ) from None
    return index


def samples(source: Source, images: Sequence[str]) -> Rows:
    """The layout: a sample's labels are numbers of its .json, beside each other or under `attributes`, and the class in its .cls."""
    assert isinstance(source, ShardSource)
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for name, text in source.labels.items():
        stem, _, ending = _key(name)
        labels[stem][ending] = text
    first: dict[str, str] = {}
    for image in images:
        stem, plain, _ = _key(image)
        if plain:
            first.setdefault(stem, image)
    some = [_labels(stem, image, labels.get(stem, {})) for stem, image in islice(first.items(), 100)]
    bounded(str(source.path), len(first), max(map(len, some), default=1) - 1)  # before all of them are objects
    found = [_labels(f"{source.path}: {quoted(stem)}", image, labels.get(stem, {})) for stem, image in first.items()]
    if not any(len(row) > 1 for row in found):
        raise FaceganError(
            f"data {source.path}: none of {len(found):,} samples has labels: expected a .json or .cls beside each image; {LAYOUTS}"
        )
    given = [row.pop("file_name") for row in found]
    _spread_classes(found)
    titles = dict.fromkeys(name for row in found for name in row)
    table: dict[str, Sequence[Any]] = {"file_name": list(first.values()), **{name: [row.get(name) for row in found] for name in titles}}
    rows = imagefolder(lambda *_: table)(source, [""], images)
    if len(set(given)) == len(given):  # what they were called before they were packed
        rows.ids = given
    return rows


def _key(name: str) -> tuple[str, bool, str]:
    """What a sample's files share, whether the rest is one plain ending, and that."""
    folder, base = posixpath.split(name)
    stem, _, ending = base.partition(".")
    return posixpath.join(folder, stem), "." not in ending, ending


def _labels(where: str, image: str, texts: dict[str, str]) -> dict[str, Any]:
    """One sample's row of a table, with `file_name`; a class as `cls`."""
    row: dict[str, Any] = {"file_name": image}
    if "json" in texts:
        told = parse_json(texts["json"], f"{where}.json")
        if not isinstance(told, dict):
            raise FaceganError(f"{where}.json: expected an object of labels, got {quoted(told)}")
        inner = told.pop("attributes", None)
        told = {**told, **inner} if isinstance(inner, dict) else told
        row |= {name: value for name, value in told.items() if value is None or isinstance(value, (str, int, float))}
        if not isinstance(row["file_name"], str) or not row["file_name"].strip():
            row["file_name"] = image
    if "cls" in texts:
        row["cls"] = texts["cls"].strip()
    return row


def _spread_classes(rows: list[dict[str, Any]]) -> None:
    """A column a class: `label0`, `label1`, ... of numbers, or each name's own."""
    classes = [row.pop("cls", None) for row in rows]
    names = sorted({each for each in classes if each})
    if not names:
        return
    plain = all(each.isdecimal() and len(each) < 6 for each in names)
    titles = {each: f"label{int(each)}" if plain else each for each in names}
    for row, own in zip(rows, classes, strict=True):
        row |= {title: None if not own else float(each == own) for each, title in titles.items() if title not in row}
