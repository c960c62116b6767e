"""`facegan restore` as a user calls it: names, pixels, faces that must be left out, and what happens without weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretend_detector
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from facegan.checkpoints.networks import StyleGAN2Checkpoint, save_networks
from facegan.checkpoints.restorers import RestorerWeights, open_restorer, save_restorer
from facegan.cli import main
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import Generator, StyleGAN2Config

CONFIG = StyleGAN2Config(resolution=32, z_dim=6, w_dim=5, mapping_layers=2, channel_base=128, channel_max=8, noise="concat")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A random restorer of 32 px faces whose colours fill the range and go beyond it."""
    torch.manual_seed(0)
    restorer = Restorer(CONFIG)
    for parameter in restorer.parameters():
        nn.init.normal_(parameter)
    faces = torch.from_numpy(np.stack([pixels(face(32, seed)) for seed in range(3)])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        made = restorer(faces)
        spread = (made - made.mean((0, 2, 3), keepdim=True)).std()
        for block in restorer.generator.synthesis.blocks:
            block.torgb.weight /= spread
            block.torgb.bias /= spread
        restorer.generator.synthesis.b32.torgb.bias -= restorer(faces).mean((0, 2, 3))
    folder = tmp_path_factory.mktemp("weights") / "restorer"
    save_restorer(RestorerWeights(CONFIG, restorer.state_dict()), folder)
    return str(folder)


def face(side: int, seed: int = 0, height: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height or side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1))


def pixels(image: Image.Image | Path) -> np.ndarray:
    return np.asarray(image if isinstance(image, Image.Image) else Image.open(image))


def expected(weights: str, image: Image.Image) -> np.ndarray:
    """x / 127.5 - 1 in; y / 2 + 1/2, clipped, times 255 and cut off, out."""
    x = torch.from_numpy(pixels(image).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    y = open_restorer(weights).restorer()(x)[0].permute(1, 2, 0).numpy()
    return np.trunc(np.clip(y / 2 + 0.5, 0, 1) * 255)


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal, but that a value at an edge may fall to the other side."""
    difference = np.abs(found.astype(float) - wanted)
    return found.shape == wanted.shape and difference.max() <= 1 and difference.mean() < 0.01


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def failed(arguments: list[str], capsys) -> tuple[str, str]:
    """The sentences of a call with exit status 2: the last one, and all of them."""
    assert main(["restore", *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1], error


# --- names and pixels


def test_an_input_of_the_networks_size_is_taken_as_it_is(weights, tmp_path):
    for seed in range(3):
        face(32, seed).save(tmp_path / f"face {seed}.png")
    names = [str(tmp_path / f"face {seed}.png") for seed in range(3)]
    assert main(["restore", *names, "--weights", weights, "--out", str(tmp_path / "out"), "--batch", "2"]) == 0
    assert files(tmp_path / "out") == ["before-after.png", "face 0.png", "face 1.png", "face 2.png"]
    for seed in range(3):
        wanted = expected(weights, face(32, seed))
        assert near(pixels(tmp_path / f"out/face {seed}.png"), wanted)
        assert wanted.min() == 0 and wanted.max() == 255  # clipping and cutting off were put to the test
    sheet = pixels(tmp_path / "out/before-after.png")
    assert sheet.ndim == 3 and sheet.shape[0] > 3 * 32 and sheet.shape[1] > 2 * 32


def test_other_sizes_are_resampled_by_lanczos(weights, tmp_path):
    face(16).save(tmp_path / "small.png")
    face(50, height=40).save(tmp_path / "large.bmp")  # the central square of it
    inputs = [str(tmp_path / name) for name in ("small.png", "large.bmp")]
    assert main(["restore", *inputs, "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    square = face(50, height=40).crop((5, 0, 45, 40))
    for name, image in (("small", face(16)), ("large", square)):
        assert near(pixels(tmp_path / f"out/{name}.png"), expected(weights, image.resize((32, 32), Image.Resampling.LANCZOS)))


def test_a_folder_is_taken_with_what_lies_in_it(weights, tmp_path):
    (tmp_path / "in/below").mkdir(parents=True)
    face(32, 1).save(tmp_path / "in/one.png")
    face(32, 2).save(tmp_path / "in/below/two.webp", lossless=True)
    face(32, 3).convert("L").save(tmp_path / "in/grey.tif")
    (tmp_path / "in/notes.txt").write_text("not a face")
    assert main(["restore", str(tmp_path / "in"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == ["before-after.png", "below", "grey.png", "one.png", "two.png"]
    assert near(pixels(tmp_path / "out/below/two.png"), expected(weights, face(32, 2)))
    assert near(pixels(tmp_path / "out/grey.png"), expected(weights, face(32, 3).convert("L").convert("RGB")))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert main(["restore", str(tmp_path / "in"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0  # again, onto the same
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}


def test_sub_folders_are_mirrored_and_masks_and_other_formats_left_out(weights, tmp_path, caplog):
    for seed, name in enumerate(["ann/1.png", "bob/1.png", "bob/old/1.jpg.png", "1.png"]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        face(32, seed).save(tmp_path / "in" / name)
    (tmp_path / "in/masks").mkdir()
    face(32, 9).save(tmp_path / "in/masks/1.png")
    (tmp_path / "in/ann/2.psd").write_bytes(b"8BPS")
    assert main(["restore", str(tmp_path / "in"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["1.png", "ann/1.png", "before-after.png", "bob/1.png", "bob/old/1.jpg.png"]
    assert near(pixels(tmp_path / "out/bob/1.png"), expected(weights, face(32, 1)))
    assert "1 masks are left out, such as masks/1.png, which belongs to 1.png" in caplog.text
    assert "1 files are not read and left out, such as ann/2.psd: .psd is not read here" in caplog.text


@pytest.mark.parametrize("flags", [["--scale", "2"], []])
def test_alpha_is_kept_in_any_form(flags, weights, tmp_path):
    """Of RGBA, grey with alpha, and a palette with a transparent colour; resized by Lanczos beside the face, seen on white."""
    opaque = Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 16), dtype=np.uint8))
    rgba, grey = face(16).convert("RGBA"), face(16, 1).convert("LA")
    rgba.putalpha(opaque)
    grey.putalpha(opaque)
    rgba.save(tmp_path / "rgba.png")
    grey.save(tmp_path / "grey.webp", lossless=True)
    face(16, 2).quantize(8).save(tmp_path / "palette.png", transparency=0)
    inputs = [str(tmp_path / name) for name in ("rgba.png", "grey.webp", "palette.png")]
    assert main(["restore", *inputs, "--out", str(tmp_path / "out"), *(flags or ["--weights", weights])]) == 0
    for name in inputs:
        wanted = Image.open(name).convert("RGBA").getchannel("A").resize((32, 32), Image.Resampling.LANCZOS)
        assert Image.open(tmp_path / "out" / f"{Path(name).stem}.png").mode == "RGBA"
        assert np.array_equal(pixels(tmp_path / "out" / f"{Path(name).stem}.png")[..., 3], np.asarray(wanted))
    seen = Image.alpha_composite(Image.new("RGBA", (16, 16), "white"), rgba).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    if not flags:
        assert near(pixels(tmp_path / "out/rgba.png")[..., :3], expected(weights, seen))


def test_a_face_is_the_same_in_every_batch(weights, tmp_path):
    for seed in range(5):
        face(32, seed).save(tmp_path / f"{seed}.png")
    for batch in (1, 3):
        inputs = [str(tmp_path / f"{seed}.png") for seed in range(5)]
        assert main(["restore", *inputs, "--weights", weights, "--out", str(tmp_path / f"by{batch}"), "--batch", str(batch)]) == 0
    assert all(near(pixels(tmp_path / f"by1/{seed}.png"), pixels(tmp_path / f"by3/{seed}.png").astype(float)) for seed in range(5))


def test_turned_transparent_and_deep_pictures_are_seen_as_their_viewers_show_them(weights, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    face(32, 1).save(tmp_path / "turned.png", exif=exif)
    layer = face(16, 2).convert("RGBA")
    opaque = np.zeros((16, 16), np.uint8)
    opaque[:, 8:] = 255
    layer.putalpha(Image.fromarray(opaque))
    layer.save(tmp_path / "clear.png")
    inputs = [str(tmp_path / name) for name in ("turned.png", "clear.png")]
    assert main(["restore", *inputs, "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert near(pixels(tmp_path / "out/turned.png"), expected(weights, face(32, 1).transpose(Image.Transpose.ROTATE_270)))
    seen = face(16, 2)
    seen.paste("white", (0, 0, 8, 16))
    half = pixels(tmp_path / "out/clear.png")
    assert near(half[..., :3], expected(weights, seen.resize((32, 32), Image.Resampling.LANCZOS)))
    assert np.array_equal(half[..., 3], Image.fromarray(opaque).resize((32, 32), Image.Resampling.LANCZOS))
    assert Image.open(tmp_path / "out/turned.png").mode == "RGB" and Image.open(tmp_path / "out/before-after.png").mode == "RGB"


def test_faces_of_a_trained_run_are_restored(weights, tmp_path, prior):
    assert main(["generate", prior, "--seeds", "0-2", "--out", str(tmp_path / "made")]) == 0
    flags = ["--num", "3", "--batch", "2", "--weights", weights, "--out", str(tmp_path / "out")]
    assert main(["restore", "--from-run", prior, *flags]) == 0
    assert files(tmp_path / "out") == ["before-after.png", "seed0000.png", "seed0001.png", "seed0002.png"]
    for seed in range(3):
        made = Image.open(tmp_path / f"made/seed000{seed}.png")
        wanted = expected(weights, made.resize((32, 32), Image.Resampling.LANCZOS))
        assert np.abs(pixels(tmp_path / f"out/seed000{seed}.png") - wanted).mean() < 2  # a level of the face made may differ by one


# --- without weights, and --scale


@pytest.mark.parametrize("scale", [0, 2, 4])
def test_without_weights_it_is_lanczos_and_sharpening_and_says_so(scale, tmp_path, caplog):
    face(16).save(tmp_path / "a.png")
    with caplog.at_level("INFO"):
        flags = ["--scale", str(scale)] if scale else []
        assert main(["restore", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *flags]) == 0
    factor = scale or 2
    assert f"no `weights`: faces are enlarged {factor} times by Lanczos and mildly sharpened, no network adds detail" in caplog.text
    plain = face(16).resize((16 * factor, 16 * factor), Image.Resampling.LANCZOS)
    found = pixels(tmp_path / "out/a.png").astype(float)
    assert found.shape == (16 * factor, 16 * factor, 3)
    added, detail = found - pixels(plain), pixels(plain) - pixels(plain.filter(ImageFilter.GaussianBlur(1))).astype(float)
    assert added.any() and np.abs(added).mean() < 12 and (added * detail).sum() > 0  # more of what a blur takes
    assert np.all(np.abs(added) <= np.abs(detail) + 1)


def test_scale_takes_the_faces_that_it_leads_to_the_networks_size(weights, tmp_path, capsys, caplog):
    for side in (8 * 2, 32, 20):
        face(side).save(tmp_path / f"{side}.png")
    inputs = [str(tmp_path / f"{side}.png") for side in (16, 32, 20)]
    last, _ = failed([*inputs, "--weights", weights, "--scale", "2", "--out", str(tmp_path / "out")], capsys)
    assert files(tmp_path / "out") == ["16.png", "before-after.png"]
    assert last.startswith("facegan: 2 of 3 faces left out: ")
    assert f"32.png has 32 px, which `scale=2` makes 64, but {weights} makes 32: omit `scale`, or name weights" in caplog.text


# --- what is left out


def bad_files(folder: Path) -> dict[str, str]:
    """{file name: words of its sentence}; each is written to the folder."""
    folder.mkdir()
    face(32).save(folder / "moving.gif", save_all=True, append_images=[face(32, 1), face(32, 2)])
    face(32).convert("CMYK").save(folder / "inks.jpg")
    Image.new("1", (10_000, 10_000)).save(folder / "map.png", compress_level=1)
    Image.new("1", (14_000, 14_000)).save(folder / "vast.png", compress_level=1)
    face(8).save(folder / "tiny.png")
    face(64, height=32).save(folder / "group.png")
    face(32, height=64).save(folder / "tall.png")
    (folder / "text.png").write_text("a text")
    (folder / "empty.jpg").touch()
    face(32).save(folder / "whole.png")
    (folder / "half.png").write_bytes((folder / "whole.png").read_bytes()[:900])
    Image.fromarray(np.zeros((32, 32), np.float32)).save(folder / "float.tif")
    return {
        "moving.gif": "is an animation of 3 pictures; expected one", "inks.jpg": "is in CMYK",
        "tiny.png": "has 8 x 8 pixels; expected at least 16 x 16",
        "map.png": "has 10000 x 10000 pixels; expected at most 64 million: cut out the face",
        "vast.png": "has far too many pixels; expected at most 64 million", "group.png": "is 64 x 32, the shape of a whole photograph",
        "tall.png": "is 32 x 64, the shape of a whole photograph", "text.png": "no picture in a format that is read here",
        "empty.jpg": "no picture in a format that is read here", "half.png": "is no readable image", "float.tif": "floating-point pixels",
    }  # fmt: skip


def test_each_bad_file_gets_its_sentence_and_the_others_are_done(weights, tmp_path, capsys, caplog, monkeypatch):
    pretend_detector.remove(monkeypatch)  # photographs are refused where their faces cannot be found
    sentences = bad_files(tmp_path / "in")
    last, _ = failed([str(tmp_path / "in"), "--weights", weights, "--out", str(tmp_path / "out")], capsys)
    assert last.startswith(f"facegan: {len(sentences)} of {len(sentences) + 1} faces left out: ") and last.endswith(" ...")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("left out: ")]
    assert len(told) == len(sentences)
    for name, words in sentences.items():
        (sentence,) = [line for line in told if str(tmp_path / "in" / name) in line]
        assert words in sentence and "\n" not in sentence
    assert files(tmp_path / "out") == ["before-after.png", "whole.png"]
    assert near(pixels(tmp_path / "out/whole.png"), expected(weights, face(32)))


def test_where_all_are_bad_nothing_is_written(weights, tmp_path, capsys):
    face(8).save(tmp_path / "tiny.png")
    last, _ = failed([str(tmp_path / "tiny.png"), "--weights", weights, "--out", str(tmp_path / "out")], capsys)
    assert last.startswith(f"facegan: 1 of 1 faces left out: {tmp_path / 'tiny.png'} has 8 x 8 pixels")
    assert not (tmp_path / "out").exists()


def test_of_two_faces_with_one_name_the_second_is_left_out(weights, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    face(32, 1).save(tmp_path / "a.png")
    face(32, 2).save(tmp_path / "other/a.bmp")
    face(32, 3).save(tmp_path / "before-after.png")
    inputs = [str(tmp_path / name) for name in ("a.png", "other/a.bmp", "before-after.png")]
    last, _ = failed([*inputs, "--weights", weights, "--out", str(tmp_path / "out")], capsys)
    written = tmp_path / "out/a.png"
    assert f"{tmp_path / 'other/a.bmp'} would be written to {written}, as {tmp_path / 'a.png'} is; rename it" in last
    assert "before-after.png, as the sheet of before and after is" in last
    assert near(pixels(written), expected(weights, face(32, 1)))


@pytest.mark.parametrize("batch", ["1", "8"])
def test_no_input_is_overwritten(batch, weights, tmp_path, capsys):
    """The folder of the inputs as that of the results: neither a picture itself nor another input of its name."""
    for name in ("a.png", "b.bmp", "c.jpg", "c.png"):
        face(32, ord(name[0])).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    last, _ = failed([str(tmp_path), "--weights", weights, "--out", str(tmp_path), "--batch", batch], capsys)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.items() >= before.items() and after.keys() - before.keys() == {"b.png", "before-after.png"}
    assert last.startswith("facegan: 3 of 4 faces left out: ")
    assert f"{tmp_path / 'a.png'}, which is to be restored, would be overwritten; name another folder in --out" in last
    assert near(pixels(tmp_path / "b.png"), expected(weights, face(32, ord("b"))))


def test_the_sheet_is_not_written_onto_an_input(weights, tmp_path, capsys):
    face(32, 1).save(tmp_path / "before-after.png")
    before = (tmp_path / "before-after.png").read_bytes()
    last, _ = failed([str(tmp_path), "--weights", weights, "--out", str(tmp_path)], capsys)
    assert "before-after.png is to be restored, and the sheet of before and after would be written there" in last
    assert (tmp_path / "before-after.png").read_bytes() == before


# --- mistakes


def test_mistakes_are_one_sentence_and_status_2(weights, tmp_path, capsys):
    face(32).save(tmp_path / "a.png")
    (tmp_path / "none").mkdir()
    torch.manual_seed(0)
    generator = Generator(CONFIG)
    save_networks(StyleGAN2Checkpoint(CONFIG, {"G_ema": generator.state_dict()}), tmp_path / "generator")
    good, out = str(tmp_path / "a.png"), ["--out", str(tmp_path / "out")]
    for arguments, words in [
        ([], "expected either images and folders of them, or --from-run RUN"),
        ([good, "--from-run", "runs/x"], "expected either images and folders of them, or --from-run RUN"),
        ([good, "--batch", "0"], "--batch is 0: expected at least 1"),
        (["--from-run", "runs/x", "--num", "0"], "--num is 0: expected at least 1"),
        (["--from-run", str(tmp_path / "none")], "is not a run"),
        ([str(tmp_path / "absent.png")], "absent.png does not exist"),
        ([str(tmp_path / "none")], "holds no images"),
        ([good, "--weights", str(tmp_path / "nowhere")], "nowhere does not exist; expected a run of `train --method restore`"),
        ([good, "--weights", good], "is of no known kind; expected"),
        ([good, "--weights", str(tmp_path / "generator")], "does not describe a restorer"),
    ]:
        last, _ = failed([*arguments, *out], capsys)
        assert last.startswith("facegan: ") and words in last, arguments
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    last, _ = failed([good, "--weights", weights, "--out", str(tmp_path / "file")], capsys)
    assert str(tmp_path / "file") in last


def test_a_face_that_is_left_out_takes_no_name(weights, tmp_path, capsys):
    face(20).save(tmp_path / "page.png")
    face(16).save(tmp_path / "page.bmp")
    failed([str(tmp_path / "page.png"), str(tmp_path / "page.bmp"), "--weights", weights, "--scale", "2",
            "--out", str(tmp_path / "out")], capsys)  # fmt: skip
    assert files(tmp_path / "out") == ["before-after.png", "page.png"]


def test_what_was_restored_into_the_folder_of_the_inputs_is_no_input(weights, tmp_path):
    face(32).save(tmp_path / "a.png")
    command = ["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "large")]
    assert main(command) == 0 and main(command) == 0
    assert files(tmp_path / "large") == ["a.png", "before-after.png"]


def test_a_telephones_photo_is_its_first_picture(weights, tmp_path):
    face(32).save(tmp_path / "photo.mpo", save_all=True, append_images=[face(32, 1)])
    (tmp_path / "photo.mpo").rename(tmp_path / "photo.jpg")
    assert Image.open(tmp_path / "photo.jpg").n_frames == 2
    assert main(["restore", str(tmp_path / "photo.jpg"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0


def test_faces_larger_than_the_networks_are_shrunk_and_that_is_said_once(weights, tmp_path, caplog):
    for seed in range(3):
        face(48, seed).save(tmp_path / f"{seed}.png")
    assert main(["restore", str(tmp_path), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert Image.open(tmp_path / "out/0.png").size == (32, 32)
    assert len([record for record in caplog.records if "is shrunk" in record.message]) == 1
