"""Faces by seed and mixes, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
from app_page import Eyes, expect, pixels, same, unpacked  # noqa: E402


def test_faces_are_those_of_the_command_and_can_be_downloaded(eyes: Eyes, tmp_path: Path, written: Callable) -> None:
    eyes.open().fill("generate-seeds", "3,5,8")
    eyes.fill("generate-truncation", "0.7")
    eyes("generate-run").click()
    line = eyes.says("generate-command", "--seeds 3,5,8.*--truncation 0.7")
    eyes.picture("generate-result")
    assert eyes("generate-result").locator("img").count() == 3
    made = unpacked(eyes.download("generate", tmp_path))
    same(made, written(line))
    assert len({pixels(made[f"seed000{seed}.png"]).tobytes() for seed in (3, 5, 8)}) == 3


def test_surprises_differ(eyes: Eyes) -> None:
    eyes.open()
    eyes("generate-surprise").click()
    first = eyes.says("generate-command", r"--seeds \d+-\d+")
    picture = eyes.picture("generate-result")
    eyes("generate-surprise").click()
    eyes.changes("generate-result", picture)
    assert eyes.text("generate-command") != first


def test_a_click_keeps_a_face_for_the_mix(eyes: Eyes) -> None:
    eyes.open().fill("generate-seeds", "20-23")
    eyes("generate-run").click()
    eyes.says("generate-command", "20-23")
    eyes.picture("generate-result")
    eyes("generate-result").get_by_role("button").nth(1).click()
    eyes.says("generate-kept", "21")
    eyes.tab("Mix")
    eyes.choose("mix-rows-styles", "seed 21")
    eyes.choose("mix-cols-styles", "beard (32)")
    eyes.fill("mix-cols-seeds", "")
    eyes("mix-run").click()
    assert "--cols beard" in eyes.says("mix-command", r"--rows 0 1 2 3 21 --cols beard ")
    eyes.picture("mix-result")


def test_mixes_are_those_of_the_command(eyes: Eyes, tmp_path: Path, written: Callable) -> None:
    eyes.open("Mix").fill("mix-rows-seeds", "0-1")
    eyes.fill("mix-cols-seeds", "6")
    eyes.choose("mix-mode", "interpolate")
    eyes.fill("mix-layers-first", 4)
    eyes.fill("mix-layers-last", 7)
    eyes.fill("mix-weight", 0.5)
    line = eyes.says("mix-command", "--mode interpolate --layers 4-7 .*--weight 0.5")
    expect(eyes("mix-layers")).to_contain_text("16 px, 32 px")
    source = eyes.picture("mix-result")
    made = unpacked(eyes.download("mix", tmp_path))
    theirs = written(line)
    same(made, theirs)
    assert "recipe.json" in made and len([name for name in made if name.startswith("row-")]) == 2
    shown = eyes.page.request.get(source).body()
    np.testing.assert_array_equal(pixels(shown), pixels(theirs["grid.png"]))


def test_while_a_slider_moves_the_latest_request_wins(eyes: Eyes) -> None:
    eyes.open("Mix")
    eyes.choose("mix-mode", "crossover")
    before = eyes.says("mix-command", "--mode crossover")
    eyes.slide("mix-layers-first", "Home", *["ArrowRight"] * 3)
    eyes.slide("mix-layers-last", *["ArrowLeft"] * 5)
    line = eyes.says("mix-command", "--layers 3-4 ")
    assert line != before
    expect(eyes("mix-layers")).to_contain_text("layers 3 to 4")
    shown = eyes.page.request.get(eyes.settled("mix-result")).body()
    eyes("mix-run").click()  # what is asked for in peace is the same
    eyes.page.wait_for_timeout(300)
    np.testing.assert_array_equal(pixels(shown), pixels(eyes.page.request.get(eyes.settled("mix-result")).body()))
    assert eyes.text("mix-command") == line


def test_a_walk_is_the_video_of_the_command(eyes: Eyes, tmp_path: Path, written: Callable) -> None:
    eyes.open("Mix").fill("mix-rows-seeds", "0-1")
    eyes.fill("mix-cols-seeds", "")
    eyes.unfold("mix-walk")
    eyes.fill("mix-walk-frames", 3)
    eyes("mix-walk-run").click()
    line = eyes.says("mix-command-walk", "facegan walk .*--frames 3")
    with eyes.page.expect_download() as download:
        eyes("mix-walk-download").click()
    download.value.save_as(tmp_path / "ours.gif")
    assert Image.open(tmp_path / "ours.gif").n_frames == 6  # type: ignore[attr-defined]
    assert (tmp_path / "ours.gif").read_bytes() == written(line)["."]


def test_a_search_without_critics_is_a_sentence(eyes: Eyes) -> None:
    eyes.open("Mix")
    eyes.unfold("mix-search")
    eyes("mix-search-run").click()
    assert "critics" in eyes.told("critics")


def test_bad_seeds_are_a_sentence_and_the_page_goes_on(eyes: Eyes) -> None:
    eyes.open()
    for seeds, sentence in [("5-1", "expected"), ("all", "expected"), ("0-9999", "at most")]:
        eyes.fill("generate-seeds", seeds)
        eyes("generate-run").click()
        said = eyes.told(f"{seeds}.*{sentence}" if sentence == "expected" else sentence)
        assert "Seeds" in said and "Traceback" not in said and "`" not in said
    eyes.fill("generate-seeds", "4")
    eyes("generate-run").click()
    eyes.says("generate-command", "--seeds 4 ")


def test_reload_starts_afresh_and_works(eyes: Eyes) -> None:
    eyes.open().fill("generate-seeds", "9")
    eyes("generate-run").click()
    eyes.says("generate-command", "--seeds 9 ")
    eyes.page.reload()
    expect(eyes("generate-run")).to_be_visible()
    assert eyes("generate-result").locator("img").count() == 0
    eyes("generate-run").click()
    eyes.says("generate-command", "facegan generate")
    eyes.picture("generate-result")


def test_two_visitors_do_not_see_each_other(visitor: Callable[..., Eyes]) -> None:
    one, other = visitor().open(), visitor().open()
    for eyes, seed in ((one, 31), (other, 32)):
        eyes.fill("generate-seeds", seed)
        eyes("generate-run").click()
    for eyes, seed in ((one, 31), (other, 32)):
        eyes.says("generate-command", f"--seeds {seed} ")
        eyes.picture("generate-result")
        eyes("generate-result").get_by_role("button").first.click()
        eyes.says("generate-kept", str(seed))
    for eyes, mine, others in ((one, 31, 32), (other, 32, 31)):
        eyes.tab("Mix")
        expect(eyes("mix-rows-styles").get_by_label(f"seed {mine}")).to_be_visible()
        assert eyes("mix-rows-styles").get_by_label(f"seed {others}").count() == 0


def test_a_region_is_mixed_in_all_layers_and_the_controls_say_so(eyes: Eyes, tmp_path: Path, written: Callable) -> None:
    eyes.open("Mix").fill("mix-rows-seeds", "0")
    eyes.fill("mix-cols-seeds", "6")
    eyes.choose("mix-mode", "regional")
    line = eyes.says("mix-command", "--mode regional --mask lower --layers 0-9 ")
    expect(eyes("mix-layers")).to_contain_text("layers 0 to 9")
    eyes.choose("mix-mask", "mouth")
    line = eyes.says("mix-command", "--mode regional --mask mouth --layers 0-9 ")
    source = eyes.settled("mix-result")
    np.testing.assert_array_equal(pixels(eyes.page.request.get(source).body()), pixels(written(line)["grid.png"]))
    eyes.choose("mix-mode", "crossover")
    eyes.says("mix-command", "--mode crossover --layers 0-9 ")
    expect(eyes("mix-mask")).to_be_hidden()
