"""Which files are pictures that can be read here, and how they are opened: the formats of photographs, by their names.

Left to itself Pillow looks at a file's content and would start Ghostscript for PostScript called `x.png`.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from facegan.files import quoted, read_bytes

IMAGE_LIMIT = 256 << 20  # bytes of one picture's file: 64 million pixels of four uncompressed bytes
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")  # in Pillow's words
_OTHERS = (".ai", ".arw", ".avif", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".icns", ".ico", ".jp2",
           ".jxl", ".nef", ".orf", ".pcx", ".ps", ".psb", ".psd", ".qoi", ".raf", ".rw2", ".sgi", ".svg", ".xcf")  # fmt: skip
_MASKED = re.compile(r"(?i).*(mask[-_ ]?(anno|colou?r|label|map)|celebamask.*mask|segmentation|parsing).*")
_MASKS = re.compile(r"(?i)masks?")
_PICTURES = ("images", "image", "imgs", "img", "faces", "photos", "pictures", "jpg", "png", "CelebA-HQ-img", "Images", "Img")
SHEETS = frozenset(("contact-sheet.png", "labels.png"))  # what `facegan data align` and `data label` write among faces, for people
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TURNS = (b"Raw profile type", b"XML:com.adobe.xmp")  # texts that may tell which side is up
_SMALL = 64 << 10  # bytes of such a text


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads; HEIF where the package pillow-heif is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """Endings of the files that `open_image` reads, in lower case, with the dot."""
    read = {*formats(), "MPO"}  # MPO: a JPEG with further pictures behind it
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in read)


def is_image(name: str) -> bool:
    """Whether a file's name ends like those of the formats read here, and is none of the sheets that facegan writes among faces."""
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes() and path.name.lower() not in SHEETS


def unread(names: Iterable[str]) -> list[tuple[str, str]]:
    """(name, reason) of the files that are pictures by their names, in formats that are not read here."""
    others = [(name, PurePosixPath(name).suffix.lower()) for name in names]
    return [(name, _reason(suffix)) for name, suffix in others if suffix in _OTHERS and suffix not in suffixes()]


def _reason(suffix: str) -> str:
    if suffix in (".heic", ".heif", ".hif"):
        return "HEIC needs `pip install pillow-heif`"
    if suffix == ".avif":
        return "AVIF needs Pillow 11.3 or later"
    return f"{suffix} is not read here: save it as PNG or JPEG"


def open_image(source: bytes | Path) -> Image.Image:
    """A picture's file, or its bytes, opened but not decoded: nothing but `formats()`, whatever its name.

    A PNG's colour profile and texts are left out, as Pillow refuses the picture for more than 1 MiB of them. Raises
    FaceganError for a file that is none, or is too large, and what Pillow raises on bad data.
    """
    data = read_bytes(source, IMAGE_LIMIT, "picture") if isinstance(source, Path) else source
    try:
        return Image.open(io.BytesIO(_bare(data)), formats=formats())
    except UnidentifiedImageError:
        raise UnidentifiedImageError(f"no picture in a format that is read here ({', '.join(formats())})") from None


def _bare(data: bytes) -> bytes:
    """A PNG without the chunks that say nothing of its pixels; other data as they are."""
    if not data.startswith(_SIGNATURE) or not re.search(b"iCCP|[tzi](?:EXt|TXt)", data):
        return data
    kept, start, at = [], 0, len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length  # length, kind, content, checksum
        turns = length <= _SMALL and data[at + 8 : at + 8 + 32].startswith(_TURNS)
        if kind == b"iCCP" or (kind in (b"tEXt", b"zTXt", b"iTXt") and not turns):
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join([*kept, data[start:]])


def without_masks(names: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """(the names of pictures, (mask, the picture it belongs to, or "") of the others).

    Masks are told by the names of folders, `CelebAMask-HQ-mask-anno` and the like, not of those that hold all pictures;
    and in `masks` or `mask` what shares its stem with a picture around the folder, or beside it: of `masks` in any folder but such as
    `no masks`, of `mask`, which may be a class, in one called `images`.
    """
    around: dict[tuple[str, str], str] = {}  # (folder, stem) -> picture
    beside: dict[tuple[str, str], str] = {}  # (folder above the folder, stem) -> picture
    for name in names:
        folder, stem = posixpath.split(posixpath.splitext(name)[0])
        above, last = posixpath.split(folder)
        around.setdefault((folder, stem), name)
        if "mask" not in last.lower():
            beside.setdefault((above, stem), name)
    kept, masks = [], []
    shared = len(PurePosixPath(posixpath.commonpath(list(map(posixpath.dirname, names)))).parts) if names else 0
    for name in names:
        folders = name.split("/")[:-1]
        stem = re.sub(r"[-_ ]mask$", "", posixpath.splitext(posixpath.basename(name))[0])
        at = next((i for i, folder in enumerate(folders) if _MASKS.fullmatch(folder)), None)
        partner = None
        if at is not None:
            root, below = folders[:at], folders[at + 1 :]
            places = ("/".join([*root, *each, *below]) for each in ((), *((word,) for word in _PICTURES)))
            partner = next((around[place, stem] for place in places if (place, stem) in around), None)
            if partner is None and not below and folders[at].lower() == "masks":
                partner = beside.get(("/".join(root), stem))
        if partner is not None or any(map(_MASKED.fullmatch, folders[shared:])):
            masks.append((name, partner or ""))
        else:
            kept.append(name)
    return kept, masks


def told_masks(masks: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence on the masks left out, if there are any."""
    if not masks:
        return []
    mask, picture = next((pair for pair in masks if pair[1]), masks[0])
    return [f"{len(masks):,} masks are left out, such as {quoted(mask)}" + f", which belongs to {quoted(picture)}" * bool(picture)]


def told_unread(unread: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence on the files that are not read, if there are any."""
    if not unread:
        return []
    reasons = "; ".join(f"{quoted(name)}: {reason}" for name, reason in dict((reason, (name, reason)) for name, reason in unread).values())
    return [f"{len(unread):,} files are not read and left out, such as {reasons}"]
