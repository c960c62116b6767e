"""Image files to one uint8 array [N, 3, R, R], decoded once and cached.

A cache entry is a folder `<key>/` of `images.npy` and `meta.json`, written under a temporary name and renamed when
complete and on the disk, so that a reader never meets half an entry and of several writers one wins. Keys say everything
the pixels depend on. Pixels are held against their digest: those that are read into memory each time, others once after
each start of the machine, and whenever their file has changed (`facegan.data.verified`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from facegan.data.formats import open_image
from facegan.data.verified import digest_of_pixels, is_verified
from facegan.errors import FaceganError
from facegan.files import quoted, sweep, written

logger = logging.getLogger("facegan.data")

_VERSION = 2  # raise when decoding changes: older entries are then never found again
_AHEAD = 1024  # images decoded ahead of the writer, so that a slow disk does not fill the memory
_IN_MEMORY = 512 * 2**20  # bytes; larger arrays stay on disk, memory-mapped


@dataclass(frozen=True, eq=False)
class Decoded:
    """The readable images of a data set, in its order."""

    images: np.ndarray  # uint8 [n, 3, R, R], read-only; a memmap when large
    kept: np.ndarray  # int64 [n]: which of the names given each one is
    skipped: tuple[tuple[str, str], ...]  # (name, reason) of the others
    digest: str  # sha256 of the pixels


@dataclass(frozen=True, eq=False)
class Entry:
    """A cache entry: images uint8 [n, 3, R, R] and what was noted with them (plain JSON), `digest` among it."""

    images: np.ndarray
    notes: dict[str, Any]


def decode(data: bytes, resolution: int) -> np.ndarray:
    """An encoded image to uint8 [3, R, R]: upright by EXIF, cropped to the central square, Lanczos, RGB on white.

    16-bit grey is scaled, not clipped. Raises what Pillow raises on bad data, and ValueError for float and
    wide-integer pixels.
    """
    with open_image(data) as opened:
        opened.draft(None, (2 * resolution, 2 * resolution))  # JPEG: let the DCT halve, down to twice the size wanted
        image = upright_square(opened)
    if image.width != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def upright_square(opened: Image.Image) -> Image.Image:
    """The central square in RGB, on white, turned as EXIF says; raises as `decode`."""
    return on_white(square(opened))


def square(opened: Image.Image) -> Image.Image:
    """The central square, turned as EXIF says, of the mode that the picture has."""
    image = ImageOps.exif_transpose(opened)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def on_white(image: Image.Image) -> Image.Image:
    """In RGB; raises ValueError as `decode`."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save the image with 8 or 16 bits")
    if image.mode.startswith("I"):  # I;16* is 16-bit grey, and so is I where an older Pillow widened it
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("32-bit integer pixels have no agreed range; save the image with 8 or 16 bits")
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))  # Pillow's conversion clips at 255
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def build(
    read: Callable[[str], bytes],
    names: Sequence[str],
    stamps: Sequence[Sequence[int]],
    resolution: int,
    *,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Decoded:
    """Decode `names` through `read` (any thread may call it), or find them in the cache.

    `stamps` tells per name when its content changed (size and time, or size and checksum). A file that cannot be read
    is left out, listed in `.skipped` and logged. Raises FaceganError when none can be.
    """
    key = content_key("files", _VERSION, resolution, [[name, *stamp] for name, stamp in zip(names, stamps, strict=True)])

    def produce(notes: dict[str, Any]) -> Iterator[np.ndarray]:
        notes["kept"], notes["skipped"] = [], []
        for i, (name, image) in enumerate(_decode_all(read, names, resolution, progress)):
            if isinstance(image, str):
                notes["skipped"].append([name, image])
            else:
                notes["kept"].append(i)
                yield image

    entry = cached(key, (len(names), 3, resolution, resolution), produce, cache_dir)
    skipped = tuple((name, reason) for name, reason in entry.notes["skipped"])
    for name, reason in skipped:
        logger.warning("skipped %s: %s", quoted(name), reason)
    if not entry.notes["kept"]:
        example = f", such as {quoted(skipped[0][0])}: {skipped[0][1]}" if skipped else ""
        raise FaceganError(f"none of the {len(names)} images of this data set can be read{example}")
    return Decoded(entry.images, np.array(entry.notes["kept"], dtype=np.int64), skipped, entry.notes["digest"])


def reason(error: Exception) -> str:
    """Why a picture cannot be read: an error's words, and its name where they alone say little; one short line."""
    return quoted(str(error) if isinstance(error, (FaceganError, UnidentifiedImageError)) else f"{type(error).__name__}: {error}", 200)


def _decode_all(
    read: Callable[[str], bytes], names: Sequence[str], resolution: int, progress: bool
) -> Iterator[tuple[str, np.ndarray | str]]:
    """(name, pixels or the reason why not), in order; threads suffice, as Pillow decodes without the lock."""

    def attempt(name: str) -> np.ndarray | str:
        try:
            return decode(read(name), resolution)
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over; that must not end a run
            return reason(error)

    with (
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool,
        tqdm(total=len(names), desc="decoding", unit="image", disable=None if progress else True) as bar,
    ):
        for start in range(0, len(names), _AHEAD):
            ahead = names[start : start + _AHEAD]
            for name, image in zip(ahead, pool.map(attempt, ahead), strict=True):
                bar.update()
                yield name, image


def cached(
    key: str,
    shape: tuple[int, int, int, int],
    produce: Callable[[dict[str, Any]], Iterable[np.ndarray]],
    cache_dir: str | Path | None = None,
) -> Entry:
    """The entry `key`, made where the cache lacks it by `produce(notes)`, which yields up to shape[0] images.

    Without a writable cache folder the images are made in memory, again each time.
    """
    folder = cache_directory(cache_dir)
    sweep(folder)  # halves of killed processes, as large as what is made
    found = _load(folder / key)
    if found:
        return found
    try:
        with written(folder / key) as partial:
            partial.mkdir()
            _store(partial, shape, produce)
    except OSError as error:
        if not (folder / key).exists():  # else another process was faster; its entry is the same
            logger.warning("cannot cache in %s (%s): decoding into memory; $FACEGAN_CACHE names another folder", folder, error)
            return _collect(shape, produce)
    entry = _load(folder / key)
    if entry is None:
        raise FaceganError(f"cache folder {folder}: what was just written cannot be read back; set FACEGAN_CACHE to another")
    return entry


def cache_directory(cache_dir: str | Path | None = None) -> Path:
    """Where decoded images are kept: the argument, else $FACEGAN_CACHE, else ~/.cache/facegan."""
    return Path(cache_dir or os.environ.get("FACEGAN_CACHE") or "~/.cache/facegan").expanduser()


def _store(folder: Path, shape: tuple[int, int, int, int], produce: Callable[[dict[str, Any]], Iterable[np.ndarray]]) -> None:
    notes: dict[str, Any] = {}
    digest, count = hashlib.sha256(), 0
    try:
        # Written as a stream, not through a memmap: a full disk is then an error and not a killed process.
        with open(folder / "images.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start = file.tell()
            for image in produce(notes):
                pixels = image.tobytes()
                digest.update(pixels)
                file.write(pixels)
                count += 1
            file.truncate(start + int(np.prod(shape)))  # rows of skipped images: a hole at the end
        notes |= {"count": count, "digest": digest.hexdigest()}
        (folder / "meta.json").write_text(json.dumps(notes))
    except OSError as error:
        raise FaceganError(
            f"cache folder {folder.parent}: cannot write {np.prod(shape) / 2**20:.0f} MiB of decoded images "
            f"({error}); make room, or set FACEGAN_CACHE to another folder"
        ) from error


def _load(folder: Path) -> Entry | None:
    try:
        notes = json.loads((folder / "meta.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="r")[: notes["count"]]
        expected = notes["digest"]
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:  # damaged since: made again
        logger.warning("%s in the cache is damaged (%s), and is made again", folder, reason(error))
        return None
    small = images.nbytes <= _IN_MEMORY
    if small:
        images = np.array(images)
        images.flags.writeable = False
    whole = digest_of_pixels(images) == expected if small else is_verified(folder, folder / "images.npy", images, expected)
    if not whole:
        logger.warning("%s in the cache is damaged (its pixels are not those that were written), and is made again", folder)
        return None
    return Entry(images, notes)


def _collect(shape: tuple[int, int, int, int], produce: Callable[[dict[str, Any]], Iterable[np.ndarray]]) -> Entry:
    notes: dict[str, Any] = {}
    images, count = np.empty(shape, np.uint8), 0
    for count, image in enumerate(produce(notes), start=1):
        images[count - 1] = image
    images = images[:count]
    images.flags.writeable = False
    return Entry(images, notes | {"count": count, "digest": hashlib.sha256(images.tobytes()).hexdigest()})


def content_key(*parts: object) -> str:
    """A key of 32 hexadecimal digits for anything JSON can write."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
