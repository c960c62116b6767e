"""Whole photographs through `facegan restore`: what is enlarged, which faces change, and what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretend_detector
import pytest
import torch
from PIL import Image, ImageFilter

import facegan
from facegan.checkpoints.restorers import RestorerWeights, save_restorer
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.restore import faces as reading
from facegan.restore import photographs
from facegan.restore.restorer import RestorerPipeline

CONFIG = StyleGAN2Config(resolution=32, z_dim=6, w_dim=5, mapping_layers=2, channel_base=128, channel_max=8, noise="concat")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "restorer"
    save_restorer(RestorerWeights(CONFIG, Restorer(CONFIG).state_dict()), folder)
    return str(folder)


@pytest.fixture
def lighter(monkeypatch) -> list[int]:
    """In place of the network: all 40 levels lighter; how many faces each batch had."""
    sizes: list[int] = []

    def restored(_, faces):
        sizes.append(len(faces))
        assert all(face.size == (32, 32) and face.mode == "RGB" for face in faces)
        return [face.point(lambda level: min(255, level + 40)) for face in faces]

    monkeypatch.setattr(RestorerPipeline, "_restored", restored)
    return sizes


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft, and dark enough to become lighter."""
    pixels = np.random.default_rng(seed).integers(60, 190, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5))


def faces_at(*squares):
    points = [pretend_detector.landmarks(*square) for square in squares]
    return lambda _: points


def depths(size, centre, side, degrees=0.0):
    """How far inside of the square each pixel is, as a share of its side; negative outside."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    angle = np.radians(degrees)
    x, y = x - centre[0], y - centre[1]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return 0.5 - np.maximum(np.abs(u), np.abs(v)) / side


def pixels(path: Path | Image.Image) -> np.ndarray:
    return np.asarray(path if isinstance(path, Image.Image) else Image.open(path)).astype(int)


def enlarged(image: Image.Image, scale: int = 2) -> Image.Image:
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("scale", [2, 4])
def test_each_face_is_restored_and_put_back(scale, weights, lighter, tmp_path, monkeypatch):
    squares = [((50, 60), 70, 0), ((150, 50), 45.5, 25)]
    pretend_detector.install(monkeypatch, faces_at(*squares))
    photo(200, 120).save(tmp_path / "group.png")
    flags = ["--scale", "4"] if scale == 4 else []
    assert main(["restore", str(tmp_path / "group.png"), "--weights", weights, "--out", str(tmp_path / "out"), *flags]) == 0
    plain, found = pixels(enlarged(photo(200, 120), scale)), pixels(tmp_path / "out/group.png")
    assert found.shape == (120 * scale, 200 * scale, 3) and lighter == [2]
    inside = [depths((200 * scale, 120 * scale), (x * scale, y * scale), side * scale, roll) for (x, y), side, roll in squares]
    assert (found == plain)[np.maximum(*inside) <= 0].all()
    for depth in inside:
        assert np.abs(found - plain - 40)[depth > 0.14].max() <= 1
    sheet = Image.open(tmp_path / "out/before-after.png")
    assert sheet.width > 2 * 32 and sheet.height > 2 * 32


def test_the_network_itself_is_asked(weights, tmp_path, monkeypatch):
    pretend_detector.install(monkeypatch, faces_at(((50, 60), 32, 0)))
    photo(200, 120).save(tmp_path / "group.png")
    assert main(["restore", str(tmp_path / "group.png"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    x = torch.from_numpy(pixels(photo(200, 120).crop((34, 44, 66, 76)))).permute(2, 0, 1)[None] / 127.5 - 1
    torch.manual_seed(0)
    with torch.no_grad():
        y = Restorer(CONFIG)(x.float())[0].permute(1, 2, 0).numpy()
    change = np.trunc(np.clip(y / 2 + 0.5, 0, 1) * 255) - pixels(photo(200, 120).crop((34, 44, 66, 76)))
    found = (pixels(tmp_path / "out/group.png") - pixels(enlarged(photo(200, 120))))[88:152, 68:132].reshape(32, 2, 32, 2, 3).mean((1, 3))
    middle = slice(6, 26)
    inner = found[middle, middle]
    assert np.abs(inner - change[middle, middle]).mean() < 4  # clipped at 0 and 255, and between pixels


@pytest.mark.parametrize("batch", ["1", "7", "64"])
def test_forty_faces_and_any_batch(batch, weights, lighter, tmp_path, monkeypatch):
    squares = [((20 + 40 * (i % 8), 20 + 40 * (i // 8)), 36, 15 * i) for i in range(40)]
    pretend_detector.install(monkeypatch, faces_at(*squares))
    photo(320, 200).save(tmp_path / "choir.png")
    assert main(["restore", str(tmp_path / "choir.png"), "--weights", weights, "--out", str(tmp_path / "out"), "--batch", batch]) == 0
    found = pixels(tmp_path / "out/choir.png") - pixels(enlarged(photo(320, 200)))
    assert sum(lighter) == 40 and max(lighter) <= int(batch)
    for (x, y), _, _ in squares:
        assert np.abs(found[2 * y - 6 : 2 * y + 6, 2 * x - 6 : 2 * x + 6] - 40).max() <= 1
    assert found.max() <= 42


def test_alpha_and_orientation_are_kept(weights, lighter, tmp_path, monkeypatch):
    opaque = Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 200), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(4))
    layered = photo(200, 120)
    layered.putalpha(opaque)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    layered.save(tmp_path / "a.png", exif=exif)
    pretend_detector.install(monkeypatch, faces_at(((60, 100), 80, 0)))
    assert main(["restore", str(tmp_path / "a.png"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    found = Image.open(tmp_path / "out/a.png")
    wanted = enlarged(layered.transpose(Image.Transpose.ROTATE_270))
    assert found.mode == "RGBA" and found.size == (240, 400)
    assert np.array_equal(pixels(found)[..., 3], pixels(wanted)[..., 3])
    depth = depths((240, 400), (120, 200), 160)
    assert np.array_equal(pixels(found)[depth <= 0], pixels(wanted)[depth <= 0])
    assert np.abs(pixels(found) - pixels(wanted))[depth > 0.2][:, :3].mean() > 20


def test_a_photograph_without_faces_is_enlarged_and_that_is_said(weights, lighter, tmp_path, monkeypatch, caplog):
    pretend_detector.install(monkeypatch, faces_at())
    photo(90, 40).save(tmp_path / "sea.png")
    assert main(["restore", str(tmp_path / "sea.png"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert np.array_equal(pixels(tmp_path / "out/sea.png"), pixels(enlarged(photo(90, 40))))
    assert "no face was found in" in caplog.text and "sea.png: it is enlarged 2 times as it is" in caplog.text
    assert (tmp_path / "out/before-after.png").exists() and not lighter


def test_without_weights_a_photograph_needs_no_detector(tmp_path, monkeypatch):
    pretend_detector.remove(monkeypatch)
    sharp = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1))
    layered = sharp.copy()
    layered.putalpha(77)
    sharp.save(tmp_path / "a.png")
    layered.save(tmp_path / "b.png")
    inputs = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for flags in ([], ["--faces", "all"]):
        assert main(["restore", *inputs, "--out", str(tmp_path / "out"), *flags]) == 0
    plain = enlarged(sharp)
    added = pixels(tmp_path / "out/a.png") - pixels(plain)
    detail = pixels(plain) - pixels(plain.filter(ImageFilter.GaussianBlur(1)))
    assert added.any() and (added * detail).sum() > 0 and np.all(np.abs(added) <= np.abs(detail) + 1)
    assert Image.open(tmp_path / "out/b.png").mode == "RGBA" and (pixels(tmp_path / "out/b.png")[..., 3] == 77).all()


@pytest.mark.parametrize("flags, words", [([], "after pip install 'facegan[align]'"), (["--faces", "one"], "after pip install")])
def test_without_the_extra_a_photograph_is_refused_as_before(flags, words, weights, tmp_path, monkeypatch, capsys):
    pretend_detector.remove(monkeypatch)
    photo(90, 40).save(tmp_path / "group.png")
    photo(32, 32).save(tmp_path / "face.png")
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "out"), *flags]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "facegan: 1 of 2 faces left out: " in last and "group.png is 90 x 40, the shape of a whole photograph" in last and words in last
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["before-after.png", "face.png"]
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "all"), "--faces", "all"]) == 2
    assert "pip install 'facegan[align]'" in capsys.readouterr().err and not (tmp_path / "all").exists()


def test_one_and_all(weights, lighter, tmp_path, monkeypatch, capsys):
    pretend_detector.install(monkeypatch, faces_at(((50, 50), 60, 0)))
    photo(100, 100).save(tmp_path / "square.png")
    photo(150, 100).save(tmp_path / "wide.png")
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "one"), "--faces", "one"]) == 2
    assert "with --faces all each of its faces is found and restored" in capsys.readouterr().err
    assert Image.open(tmp_path / "one/square.png").size == (32, 32)
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "all"), "--faces", "all"]) == 0
    assert Image.open(tmp_path / "all/square.png").size == (200, 200) and Image.open(tmp_path / "all/wide.png").size == (300, 200)
    assert main(["restore", "--from-run", "x", "--weights", weights, "--faces", "all", "--out", str(tmp_path / "no")]) == 2
    assert "--faces all goes with photographs" in capsys.readouterr().err


def test_faces_and_photographs_among_each_other(weights, lighter, tmp_path, monkeypatch):
    """Every one under its own name, whatever the batch; a face is not delayed into another's file."""
    pretend_detector.install(monkeypatch, faces_at(((50, 50), 60, 0)))
    (tmp_path / "in/below").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b.png", "below/c.png", "d.png", "e.png"]):
        photo(160 if i % 2 else 32, 100 if i % 2 else 32, i).save(tmp_path / "in" / name)
    assert main(["restore", str(tmp_path / "in"), "--weights", weights, "--out", str(tmp_path / "out"), "--batch", "2"]) == 0
    for i, name in enumerate(["a.png", "b.png", "below/c.png", "d.png", "e.png"]):
        found = Image.open(tmp_path / "out" / name)
        assert found.size == ((320, 200) if i % 2 else (32, 32))
        if not i % 2:
            assert np.array_equal(pixels(found), pixels(photo(32, 32, i)) + 40)


def test_a_result_that_is_too_large_is_refused(weights, tmp_path, monkeypatch, capsys):
    pretend_detector.install(monkeypatch, faces_at())
    monkeypatch.setattr(photographs, "LARGEST", 3_000_000)
    photo(2000, 1000).save(tmp_path / "a.png")
    assert main(["restore", str(tmp_path / "a.png"), "--weights", weights, "--out", str(tmp_path / "out")]) == 2
    assert "a.png would become 4000 x 2000 pixels; expected at most 3 million" in capsys.readouterr().err
    assert reading.LARGEST * 4 <= 256_000_000


def test_faces_cut_out_elsewhere_are_said_once(weights, tmp_path, monkeypatch, caplog):
    for seed in range(3):
        photo(64, 64, seed).save(tmp_path / f"{seed}.png")
    command = ["restore", str(tmp_path), "--weights", weights, "--out"]
    pretend_detector.install(monkeypatch, faces_at(((32, 32), 64, 30)))
    assert main([*command, str(tmp_path / "out")]) == 0
    [told] = [message for message in caplog.messages if "not where FFHQ has faces" in message]
    assert "3 of 3 faces looked at are not" in told and "turned by 30 degrees; `facegan data align" in told
    caplog.clear()
    restorer = facegan.load_restorer(weights, device="cpu")
    made = restorer(tmp_path / "0.png")
    assert "the face is not where FFHQ has faces" in caplog.text
    caplog.clear()
    restorer(made)  # what was made here, and not read
    pretend_detector.install(monkeypatch, faces_at(((32, 32), 64, 3)))
    assert main([*command, str(tmp_path / "out2")]) == 0
    assert "not where" not in caplog.text


def test_large_faces_are_said_once(weights, lighter, tmp_path, monkeypatch, caplog):
    pretend_detector.install(monkeypatch, faces_at(((75, 50), 90, 0)))
    for seed in range(2):
        photo(150, 100, seed).save(tmp_path / f"{seed}.png")
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert len([message for message in caplog.messages if "has a face of 90 px: it is restored at 32 px" in message]) == 1


# --- the Python API


def test_photo_of_the_api(weights, lighter, tmp_path, monkeypatch):
    pretend_detector.install(monkeypatch, faces_at(((50, 60), 70, 10)))
    restorer = facegan.load_restorer(weights, device="cpu")
    photo(100, 120).save(tmp_path / "a.png")
    found = restorer.photo(photo(100, 120))
    assert np.array_equal(pixels(found), pixels(restorer.photo(tmp_path / "a.png")))
    assert found.size == (200, 240) and np.abs(pixels(found) - pixels(enlarged(photo(100, 120))))[100:140, 80:120].mean() > 35
    assert facegan.load_restorer(weights, scale=4, device="cpu").photo(photo(50, 60)).size == (200, 240)
    with pytest.raises(FaceganError, match="8 x 8 pixels"):
        restorer.photo(photo(8, 8))
    with pytest.raises(FaceganError, match="absent.png"):
        restorer.photo(tmp_path / "absent.png")
    pretend_detector.remove(monkeypatch)
    assert facegan.load_restorer().photo(photo(90, 40)).size == (180, 80)
    with pytest.raises(FaceganError, match="facegan\\[align\\]"):
        facegan.load_restorer(weights, device="cpu").photo(photo(90, 40))
