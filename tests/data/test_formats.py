"""Which files are opened as pictures, which are named as left out, and masks, which are no faces."""

from __future__ import annotations

import io
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin, UnidentifiedImageError

import facegan
from facegan import cli
from facegan.data import formats
from facegan.data.formats import is_image, open_image, unread, without_masks
from facegan.data.images import decode
from facegan.data.inspect import inspect
from facegan.data.loaders import open_catalog
from facegan.data.photos import image_files, read_photos
from facegan.errors import FaceganError

FACE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
SYNTHETIC = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"  # an empty page


def _file(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FACE).save(buffer, form, **options)
    return buffer.getvalue()


def test_nothing_else_in_the_package_opens_a_picture() -> None:
    """`Image.open` takes any format, PostScript too, which starts a program: it stands in one place."""
    root = Path(facegan.__file__).parent
    calls = {path.name for path in root.rglob("*.py") if re.search(r"\bImage\.open\(|import open\b|ImageFile\.Parser", path.read_text())}
    assert calls == {"formats.py"}


def test_postscript_is_no_picture_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.open(io.BytesIO(SYNTHETIC)).format == "EPS"  # left to itself Pillow takes it
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started Ghostscript"))
    with pytest.raises(UnidentifiedImageError, match=r"no picture in a format that is read here \(.*PNG"):
        decode(SYNTHETIC, 8)
    (tmp_path / "x.png").write_bytes(SYNTHETIC)
    photos, problems = read_photos([str(tmp_path / "x.png")], 8)
    assert not photos and "no picture in a format" in problems[0] and "BytesIO" not in problems[0]


@pytest.mark.parametrize(("suffix", "form", "exact"), [
    (".jfif", "JPEG", False), (".jpe", "JPEG", False), (".JPG", "JPEG", False), (".jp2", "JPEG2000", False), (".j2k", "JPEG2000", False),
    (".avif", "AVIF", False), (".tga", "TGA", True), (".webp", "WEBP", False), (".apng", "PNG", True), (".pnm", "PPM", True),
    (".tif", "TIFF", True), (".bmp", "BMP", True),
])  # fmt: skip
def test_what_pillow_opens_among_the_formats_is_an_image(suffix: str, form: str, exact: bool, tmp_path: Path) -> None:
    if form not in formats.formats():
        pytest.skip(f"this Pillow reads no {form}")
    assert is_image(f"a/x{suffix}")
    flat = Image.new("RGB", (8, 8), (200, 100, 50))
    for name in ("bald", "beard"):
        (tmp_path / name).mkdir()
    (Image.fromarray(FACE) if exact else flat).save(tmp_path / f"bald/x{suffix}", form)
    flat.save(tmp_path / "beard/0.png")
    catalog = open_catalog(tmp_path)
    assert catalog.members == (f"bald/x{suffix}", "beard/0.png") and not catalog.unread
    pixels = decode(catalog.source.read(catalog.members[0]), 8).transpose(1, 2, 0).astype(int)
    assert np.abs(pixels - (FACE if exact else np.asarray(flat))).max() <= (0 if exact else 8)


def test_pictures_that_are_not_read_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = formats.suffixes() - {".heic"}
    monkeypatch.setattr(formats, "suffixes", lambda: known)
    for name in ("bald/1.png", "beard/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(FACE if "1" in name else FACE[::-1]).save(tmp_path / name)
    for name in ("bald/a.heic", "bald/b.HEIC", "beard/c.psd", "beard/notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "beard/\udcff.png").write_bytes(_file("PNG"))  # a name of a byte that is no UTF-8
    (tmp_path / "beard/two\nlines.png").write_bytes(_file("PNG"))
    wanted = ["bald/a.heic", "bald/b.HEIC", "beard/c.psd"]
    assert [name for name, _ in unread(path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")))] == wanted
    report = inspect(tmp_path, "bald,beard", check_images=True, progress=False).text
    assert re.search(r"images +2\n", report) and re.search(r"unreadable +5\n", report)
    assert all(name in report for name in wanted) and r"two\nlines.png: its name is not UTF-8, or has control characters" in report
    assert "5 files are not read and left out" in caplog.text and ".psd is not read here: save it as PNG or JPEG" in caplog.text
    caplog.clear()
    assert [name for _, name in image_files([str(tmp_path)])] == ["bald/1", "beard/2"]
    assert "5 files are not read and left out" in caplog.text
    (tmp_path / "only").mkdir()
    (tmp_path / "only/a.heic").write_bytes(b"?")
    for look in (lambda: open_catalog(tmp_path / "only"), lambda: image_files([str(tmp_path / "only")])):
        with pytest.raises(FaceganError, match="no images?; 1 files are not read and left out, such as a.heic: HEIC needs `pip install"):
            look()


# --- PNG with more beside its pixels than Pillow allows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


MUCH = np.random.default_rng(1).bytes(40_000)
BESIDE = {
    "profile": _chunk(b"iCCP", b"of a camera\0\0" + zlib.compress(MUCH)),
    "compressed comment": _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MUCH.hex().encode())),
    "comment": _chunk(b"tEXt", b"Comment\0" + MUCH.hex().encode()),
    "international": _chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(MUCH.hex().encode())),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_png_is_its_pixels_whatever_is_beside_them(kind: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10_000)  # Pillow's limit is 1 MiB
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 20_000)
    plain = _file("PNG")
    place = 8 + 25 if at == "before" else len(plain) - 12  # behind the header, or before the end
    data = plain[:place] + BESIDE[kind] + plain[place:]
    if at == "before":
        with pytest.raises(ValueError, match="[Tt]oo (large|much)"):
            Image.open(io.BytesIO(data)).load()
    np.testing.assert_array_equal(decode(data, 8), FACE.transpose(2, 0, 1))


def test_what_tells_which_side_is_up_stays() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = _file("PNG", exif=exif)
    np.testing.assert_array_equal(decode(turned, 8), FACE[::-1, ::-1].transpose(2, 0, 1))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3" xmlns:tiff="t"/></x:xmpmeta>'
    plain = _file("PNG")
    text = plain[:33] + _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + plain[33:]
    np.testing.assert_array_equal(decode(text, 8), FACE[::-1, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("data", [formats._SIGNATURE, formats._SIGNATURE + b"\xff\xff\xff\xfftEXt", _file("PNG")[:40] + b"iCCP", b""])
def test_a_damaged_png_is_still_only_damaged(data: bytes) -> None:
    with pytest.raises((OSError, SyntaxError, ValueError)):
        decode(data, 8)


def test_a_picture_is_a_regular_file_within_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(_file("PNG"))
    with open_image(tmp_path / "x.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), FACE)
    monkeypatch.setattr(formats, "IMAGE_LIMIT", 100)
    with pytest.raises(FaceganError, match="more than the 100 bytes of any picture"):
        open_image(tmp_path / "x.png")
    with pytest.raises(FaceganError, match="is no regular file"):
        open_image(tmp_path)


# --- Masks


@pytest.mark.parametrize(("names", "masks"), [
    (["images/0.jpg", "masks/0.png"], {"masks/0.png": "images/0.jpg"}),
    (["0.jpg", "mask/0.png"], {"mask/0.png": "0.jpg"}),
    (["img/a/0.jpg", "mask/a/0_mask.png"], {"mask/a/0_mask.png": "img/a/0.jpg"}),
    (["bald/0.jpg", "bald/masks/0.png", "beard/1.jpg"], {"bald/masks/0.png": "bald/0.jpg"}),
    (["bald/0.jpg", "masks/bald/0.png"], {"masks/bald/0.png": "bald/0.jpg"}),
    (["bald/0.jpg", "masks/0.png"], {"masks/0.png": "bald/0.jpg"}),
    (["CelebA-HQ-img/0.jpg", "CelebAMask-HQ-mask-anno/0/00000_hair.png"], {"CelebAMask-HQ-mask-anno/0/00000_hair.png": ""}),
    (["mask/0.png", "no_mask/0.png", "with_mask/1.png"], {}),  # classes: masks that people wear
    (["masks/0.png", "bald/1.png"], {}),
    (["masks/0.png", "no masks/0.png"], {}), (["masks/0.png", "without_mask/0.png"], {}),
    (["masks/0.png", "no masks/0.png", "hat/0.png"], {"masks/0.png": "hat/0.png"}),
    (["face_parsing/bald/0.png", "face_parsing/beard/0.png"], {}), (["segmentation/0.png"], {}),
    (["face_parsing/bald/0.png", "face_parsing/segmentation/0.png"], {"face_parsing/segmentation/0.png": ""}),
    (["bald/0.png", "beard/0.png"], {}),
])  # fmt: skip
def test_masks_are_told_from_faces(names: list[str], masks: dict[str, str]) -> None:
    kept, found = without_masks(names)
    assert dict(found) == masks and kept == [name for name in names if name not in masks]


def test_left_out_masks_are_named_where_nothing_else_is_read(tmp_path: Path) -> None:
    for name in ("a_parsing/0.png", "b_segmentation/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(FACE).save(tmp_path / name)
    with pytest.raises(FaceganError, match="contains no image; 2 masks are left out, such as a_parsing/0.png; "):
        open_catalog(tmp_path)
    Image.fromarray(FACE).save(tmp_path / "x.png")
    with pytest.raises(FaceganError, match="not in, class folders; 2 masks are left out, such as a_parsing/0.png; "):
        open_catalog(tmp_path)


def test_masks_beside_faces_are_no_faces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("data/bald/0.jpg", "data/beard/1.jpg", "data/masks/0.png", "data/masks/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(FACE).rotate(90 * len(name)).save(tmp_path / name)
    catalog = open_catalog(tmp_path / "data")
    assert catalog.table.columns == ("bald", "beard") and catalog.members == ("bald/0.jpg", "beard/1.jpg")
    assert catalog.notes == ("2 masks are left out, such as masks/0.png, which belongs to bald/0.jpg",)
    assert [name for _, name in image_files([str(tmp_path / "data")])] == ["bald/0", "beard/1"]
    assert caplog.text.count("2 masks are left out, such as masks/0.png") == 2


# --- Sheets that facegan itself writes among faces


def test_sheets_among_faces_are_no_faces(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    names = ["bald/1.png", "beard/2.png"]
    for i, name in enumerate([*names, "contact-sheet.png", "labels.png", "bald/contact-sheet.png", "bald/Contact-Sheet.PNG"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(FACE, i, 0)).resize((16, 16)).save(root / name)
    (root / "faces.csv").write_text("source,face,file,reason\n")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "faces")
    assert open_catalog(root).members == ("bald/1.png", "beard/2.png") and open_catalog(root).table.columns == ("bald", "beard")
    assert open_catalog(tmp_path / "packed.zip").members == ("faces/bald/1.png", "faces/beard/2.png")
    assert [name for _, name in image_files([str(root)])] == ["bald/1", "beard/2"]  # of `project` and `restore`
    assert [path.name for path, _ in image_files([str(root / "labels.png")])] == ["labels.png"]  # named, it is what is wanted
    assert cli.main(["restore", str(root), "--out", str(tmp_path / "restored")]) == 0
    assert sorted(path.name for path in (tmp_path / "restored").rglob("*.png")) == ["1.png", "2.png", "before-after.png"]
    (root / "metadata.csv").write_text("file_name,bald\nbald/1.png,1\nbeard/2.png,0\n")
    catalog = open_catalog(root)
    assert catalog.layout == "imagefolder" and len(catalog.table) == 2 and catalog.notes == ()


@pytest.mark.parametrize("name", ["my-contact-sheet.png", "labels.jpg", "labels.png/1.png", "contact-sheet.png.png"])
def test_only_these_two_names(name: str) -> None:
    assert is_image(name) and not is_image("a/labels.png") and not is_image("contact-sheet.png")
