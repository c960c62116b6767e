"""A photo's projection and edits, in a browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
from app_page import Eyes, expect, pixels, same, unpacked  # noqa: E402


def projected(eyes: Eyes, photo: Path, steps: int) -> str:
    """Upload and project a photo; the command."""
    eyes.open("Photo").attach("photo-upload", photo)
    eyes.picture("photo-face")
    eyes.fill("photo-steps", steps)
    eyes("photo-run").click()
    return eyes.says("photo-command", f"facegan project .*--steps {steps} ")


def test_a_photo_is_projected_and_edited_as_by_the_command(eyes: Eyes, photo: Path, tmp_path: Path, written: Callable) -> None:
    line = projected(eyes, photo, 20)
    shutil.copy(photo, tmp_path)
    by_hand = written(line)
    shown = eyes.page.request.get(eyes.picture("photo-result")).body()
    np.testing.assert_array_equal(pixels(shown), pixels(by_hand["projection.png"]))
    shutil.rmtree(tmp_path / "photo")

    eyes.fill("photo-attribute-1", 1.5)
    eyes.fill("photo-attribute-0", -0.5)
    eyes("photo-paste").get_by_role("checkbox").check()
    line = eyes.says("photo-command", r"facegan edit .*--paste.*--add beard:1\.5 .*--remove bald:0\.5 ")
    eyes.picture("photo-pasted")
    expect(eyes("photo-status")).to_contain_text("drift")
    made, by_hand = unpacked(eyes.download("photo", tmp_path)), written(line)
    same(made, by_hand)
    shown = eyes.page.request.get(eyes.settled("photo-edited")).body()
    np.testing.assert_array_equal(pixels(shown), pixels(by_hand["edit.png"]))


def test_a_projection_is_watched_and_called_off(eyes: Eyes, photo: Path) -> None:
    eyes.open("Photo").attach("photo-upload", photo)
    eyes.picture("photo-face")
    eyes.fill("photo-steps", 2000)
    eyes("photo-run").click()
    first = eyes.picture("photo-result")
    second = eyes.changes("photo-result", first)
    early, late = (pixels(eyes.page.request.get(url).body()) for url in (first, second))
    assert early.shape == late.shape and (early != late).any()
    expect(eyes("photo-status")).to_contain_text("2000")
    eyes("photo-cancel").click()
    expect(eyes("photo-status")).to_contain_text("stopped")
    assert eyes.text("photo-command") == ""
    start = time.monotonic()  # the device is free again: 2000 steps take more than a minute
    eyes.fill("photo-steps", 10)
    eyes("photo-run").click()
    eyes.says("photo-command", "--steps 10 ")
    assert time.monotonic() - start < 30


def test_others_are_served_while_a_projection_runs(visitor: Callable[..., Eyes], photo: Path) -> None:
    one, other = visitor(), visitor().open()
    one.open("Photo").attach("photo-upload", photo)
    one.picture("photo-face")
    one.fill("photo-steps", 2000)
    one("photo-run").click()
    one.picture("photo-result")
    other.fill("generate-seeds", "12")
    other("generate-run").click()
    other.says("generate-command", "--seeds 12 ")
    one("photo-cancel").click()
    expect(one("photo-status")).to_contain_text("stopped")


def test_a_projected_photo_is_mixed_as_by_the_commands(eyes: Eyes, photo: Path, tmp_path: Path, written: Callable) -> None:
    first = projected(eyes, photo, 10)
    eyes.tab("Mix").fill("mix-rows-seeds", "")
    eyes.choose("mix-rows-styles", "photo photo")
    eyes.fill("mix-cols-seeds", "1")
    eyes("mix-run").click()
    line = eyes.says("mix-command", r"--rows photo/photo\.npz --cols 1 ")
    shown = eyes.page.request.get(eyes.settled("mix-result")).body()
    shutil.copy(photo, tmp_path)
    written(first)
    np.testing.assert_array_equal(pixels(shown), pixels(written(line)["grid.png"]))


def test_what_is_no_photo_is_a_sentence_and_the_page_goes_on(eyes: Eyes, photo: Path, tmp_path: Path) -> None:
    text, film = tmp_path / "letter.jpg", tmp_path / "film.gif"
    text.write_text("Dear face, I am no picture.\n")
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 90, 180)]
    frames[0].save(film, save_all=True, append_images=frames[1:])
    eyes.open("Photo")
    for bad in (text, film):
        eyes.attach("photo-upload", bad)
        said = eyes.told(bad.name)
        assert "Traceback" not in said and "/tmp" not in said, said
        eyes("photo-upload").get_by_role("button", name="Clear").or_(eyes("photo-upload").get_by_label("Remove Image")).first.click()
    eyes.errors[:] = [error for error in eyes.errors if "letter.jpg" not in error]  # a picture that is none cannot be drawn
    eyes.attach("photo-upload", photo)
    eyes.picture("photo-face")
