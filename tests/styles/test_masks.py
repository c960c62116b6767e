"""Masks: by name, from pictures, in recipes, learned where the truth is known; and mixes under them against a restatement."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import facegan
from facegan.checkpoints.networks import StyleGAN2Checkpoint, save_networks
from facegan.cli import main
from facegan.config import TrainConfig
from facegan.data.faces import open_faces
from facegan.errors import FaceganError
from facegan.evaluation.kept import kept, kept_by
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.learned_masks import learned_from, network_energy, tightened
from facegan.styles.masks import NAMED, box, find_mask, softened
from facegan.styles.recipe import Mask, Mixture, Recipe, mixture, uniform
from facegan.styles.search import Objective, search
from facegan.styles.store import write_style

SIDE = 16


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    config = StyleGAN2Config(resolution=SIDE, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16)
    folder = tmp_path_factory.mktemp("net")
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": Generator(config).state_dict()}), folder)
    return folder


# --- masks


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("resolution", [4, 16, 100, 256])
def test_a_named_mask_covers_its_box_at_every_size(name: str, resolution: int) -> None:
    (top, bottom), (left, right) = NAMED[name]
    values = find_mask(name, []).at(resolution)[0, 0]
    assert values.shape == (resolution, resolution) and 0 <= values.min() and values.max() <= 1
    assert float(values.mean()) == pytest.approx((bottom - top) * (right - left), abs=0.02)
    assert float(values[int(resolution * (top + bottom) / 2), int(resolution * (left + right) / 2)]) > 0.4
    if resolution >= 100:
        hard = np.zeros((resolution, resolution))
        hard[round(top * resolution) : round(bottom * resolution), round(left * resolution) : round(right * resolution)] = 1
        far = np.abs(values.numpy() - hard) > 0.02
        assert far.mean() < 0.2  # a soft edge alone


def test_a_box_between_pixels_covers_them_in_part() -> None:
    np.testing.assert_allclose(box((0.25, 0.625), (0.0, 1.0), 4)[:, 2], [0, 1, 0.5, 0])


def test_softness_is_a_gaussian_of_a_share_of_the_height() -> None:
    values = torch.zeros(64, 64)
    values[:, 32:] = 1
    place = torch.arange(64) - 31.5
    expected = 0.5 * (1 + torch.erf(place / (0.05 * 64 * 2**0.5)))
    np.testing.assert_allclose(softened(values, 0.05)[20, 8:-8], expected[8:-8], atol=0.02)
    assert torch.equal(softened(values, 0.0), values)


def test_a_picture_is_a_mask_and_a_name_finds_it(tmp_path: Path) -> None:
    grey = np.zeros((200, 200), dtype=np.uint8)
    grey[:100] = 255
    Image.fromarray(grey).save(tmp_path / "brow.png")
    for text, folders in ((str(tmp_path / "brow.png"), []), ("brow", [tmp_path / "none", tmp_path])):
        mask = find_mask(text, folders)
        assert mask.name == "brow"
        np.testing.assert_allclose(mask.at(8)[0, 0], np.repeat([1.0, 0.0], 4)[:, None].repeat(8, 1), atol=1 / 255)
    softer = find_mask("brow", [tmp_path], 0.1).at(8)[0, 0]
    assert 0.3 < softer[3, 0] < 1 and 0 < softer[4, 0] < 0.5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "expected lower, upper, mouth, eyes, or a picture"),
        (lambda path: Image.new("L", (8, 9)).save(path), "is 8 x 9: a mask is square"),
        (lambda path: Image.new("1", (5000, 5000)).save(path), "has 5000 x 5000 pixels"),
        (lambda path: path.write_bytes(b"not a picture"), "is no picture that can be read"),
        (lambda path: path.write_bytes(b""), "is no picture that can be read"),
    ],
)
def test_what_is_no_mask_is_a_sentence(make, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    make(path)
    with pytest.raises(FaceganError, match=said):
        find_mask(str(path), [])


def test_a_softness_out_of_range_is_refused() -> None:
    for softness in (-0.1, 0.6, float("nan")):
        with pytest.raises(FaceganError, match="`softness` is"):
            find_mask("lower", [], softness)


# --- recipes


def test_a_recipe_keeps_its_mask(tmp_path: Path) -> None:
    recipe = Recipe("regional", (1.0, 0.5, 1.0), find_mask("mouth", []), 0.25)
    recipe.write(tmp_path / "recipe.json")
    again = Recipe.read(tmp_path / "recipe.json", 3)
    assert again == recipe and hash(again) == hash(recipe)
    assert again.describe() == "regional 0, 1:0.5, 2 under mouth, columns 0.25 to their mean"
    plain = Recipe("crossover", (0.0, 1.0, 1.0))
    assert plain.to_json() == {"mode": "crossover", "weights": [0.0, 1.0, 1.0]}  # as older versions wrote them


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": None}, "there is no mask that says where"),
        ({"mask": {"name": "m", "png": "AAAA"}}, "the mask .?m.? is damaged"),
        ({"mask": {"name": "m", "png": "%"}}, "the mask .?m.? is damaged"),
        ({"mask": {"name": "m"}}, "no recipe"),
        ({"mask": "lower"}, "no recipe"),
        ({"average": 1.5}, "average of columns is"),
        ({"average": None}, "no recipe"),
    ],
)
def test_a_damaged_recipe_is_a_sentence(change: dict, said: str, tmp_path: Path) -> None:
    record = Recipe("regional", (1.0, 1.0, 1.0), find_mask("lower", [])).to_json() | change
    (tmp_path / "recipe.json").write_text(json.dumps(record))
    with pytest.raises(FaceganError, match=said):
        Recipe.read(tmp_path / "recipe.json", 3)


# --- mixes


def test_a_mixture_is_row_and_column_by_its_formula() -> None:
    torch.manual_seed(1)
    rows, columns, w_avg = torch.randn(5, 3, 4), torch.randn(5, 3, 4), torch.randn(4)
    mask, weights = find_mask("lower", []), (0.0, 0.5, 1.5)
    mean, w = columns.mean(0), torch.tensor(weights)[:, None]
    drawn = columns + 0.5 * (mean - columns)
    for mode, expected in (("regional", rows + w * (drawn - rows)), ("arithmetic", rows + w * (drawn - w_avg))):
        found = mixture(rows, columns, Recipe(mode, weights, mask, 0.5), w_avg, 32)
        torch.testing.assert_close(found.others, expected)
        assert torch.equal(found.ws, rows) and found.mask.shape == (1, 1, 32, 32)
    parts = list(found.split(2))
    assert [len(part) for part in parts] == [2, 2, 1] and torch.equal(torch.cat([part.others for part in parts]), found.others)
    unmasked = mixture(rows, columns, Recipe("interpolate", weights), w_avg, 32)
    assert unmasked.others is None and unmasked.mask is None
    torch.testing.assert_close(unmasked.ws, rows + w * (columns - rows))


def test_a_regional_mix_keeps_the_row_where_the_mask_is_black_and_takes_the_column_where_it_is_white(network: Path) -> None:
    """Under a mask of nothing or everything the mix is one of the two; between, the far end of the image hardly knows of the other."""
    net = facegan.load(network, device="cpu")
    black, white = (Mask.of("m", torch.full((8, 8), value)) for value in (0.0, 1.0))
    for mask, wanted in ((black, "rows"), (white, "cols")):
        path = network / "mask.png"
        Image.fromarray(mask.values().mul(255).byte().numpy()).save(path)
        mixes = net.mix(rows=["0-1"], cols=["2-3"], mask=str(path))
        sources = getattr(mixes, wanted)
        for row in range(2):
            for column in range(2):
                torch.testing.assert_close(mixes.tensors[row, column], sources[row if wanted == "rows" else column], atol=2e-5, rtol=1e-4)
    half = net.mix(rows=["0"], cols=["2"], mode="regional", mask="lower", softness=0.0)
    above, below = slice(0, 2), slice(SIDE - 2, SIDE)
    assert (half.tensors[0, 0][:, above] - half.rows[0][:, above]).abs().mean() < 0.5 * (half.rows[0] - half.cols[0])[:, above].abs().mean()
    assert (half.tensors[0, 0][:, below] - half.cols[0][:, below]).abs().mean() < 0.5 * (half.rows[0] - half.cols[0])[:, below].abs().mean()


def test_the_command_mixes_by_region_unless_layers_are_named(
    network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    words = ["mix", "--network", str(network), "--rows", "0-1", "--cols", "2", "--device", "cpu"]
    with caplog.at_level("INFO"):
        assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert "no `mask`: the columns' styles go to the lower half" in caplog.text
    assert "regional 0-5 under lower" in capsys.readouterr().out
    assert main([*words, "--recipe", str(tmp_path / "a/recipe.json"), "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/grid.png").read_bytes() == (tmp_path / "b/grid.png").read_bytes()
    assert main([*words, "--layers", "2-3", "--out", str(tmp_path / "c")]) == 0
    assert json.loads((tmp_path / "c/recipe.json").read_text()) == {"mode": "crossover", "weights": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]}
    assert main([*words, "--mode", "arithmetic", "--mask", "eyes", "--average", "1", "--weight", "2", "--out", str(tmp_path / "d")]) == 0
    assert "arithmetic 0:2, 1:2, 2:2, 3:2, 4:2, 5:2 under eyes, columns 1 to their mean" in capsys.readouterr().out.replace(
        "0-5:2", "0:2, 1:2, 2:2, 3:2, 4:2, 5:2"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask", "nose"], "--mask is 'nose': expected lower, upper, mouth, eyes"),
        (["--softness", "0.1", "--layers", "1"], "--softness is that of a mask"),
        (["--average", "2"], "average of columns is 2.0"),
        (["--mode", "crossover", "--mask", "lower", "--weight", "0.5"], "crossover takes weights 0 and 1"),
    ],
)
def test_mistakes_are_sentences(words: list[str], said: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = ["mix", "--network", str(network), "--rows", "0", "--cols", "1", "--out", str(tmp_path), "--device", "cpu"]
    assert main([*given, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


# --- learned masks


def test_a_tight_mask_is_where_its_attribute_is() -> None:
    """Energies of two attributes that meet, over a background that both change a little."""
    energy = torch.full((2, 64, 64), 0.01)
    energy[0, :30], energy[1, 26:50, 16:48] = 2.0, 1.0
    top, mouth = (tightened(energy, index, 0.99, 0.0) for index in (0, 1))
    assert (top[:24] == 1).all() and (top[34:] == 0).all()
    assert (mouth[32:48, 18:46] == 1).all() and (mouth[:26] == 0).all() and (mouth[54:] == 0).all() and (mouth[:, :12] == 0).all()
    assert tightened(energy, 1, 0.5, 0.0).mean() < 0.7 * mouth.mean()
    with pytest.raises(FaceganError, match="nothing in the image changes"):
        tightened(torch.zeros(2, 64, 64), 0, 0.99, 0.0)


class Painted(torch.nn.Module):
    """A network whose style's first number lights rows 10-15, and whose second, which every face has of its own, the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.config = StyleGAN2Config(resolution=SIDE)
        self.mapping = torch.nn.Module()
        self.mapping.register_buffer("w_avg", torch.zeros(2))

    def synthesis(self, ws: torch.Tensor, noise_mode: str) -> torch.Tensor:
        lit, rest = ws[:, 0, 0, None, None, None], ws[:, 0, 1, None, None, None]
        rows = (torch.arange(SIDE) >= 10).float()[None, None, :, None].expand(1, 3, SIDE, SIDE)
        return rows * lit + (1 - rows) * rest * (1 + lit)


def test_a_network_shows_where_a_direction_acts_whatever_else_varies() -> None:
    torch.manual_seed(0)
    ws = torch.randn(200, 1, 2)
    energy = network_energy(Painted(), ws, torch.tensor([[1.0, 0.0]]))
    # rows 10-15 change by 1 in every face, whose values there are N(0, 1); elsewhere the change is as often down as up
    np.testing.assert_allclose(energy[10:], 1 / (ws[:, 0, 0].var(correction=0) + 1e-4), rtol=1e-3)
    assert float(energy[:10].max()) < 0.05


def test_the_command_learns_masks_that_mix_finds(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["styles", "mask", "--network", str(network), "--attributes", "bald,beard"]
    assert main([*words, "--data", "synthetic:3", "--out", str(tmp_path / "masks")]) == 0
    bald, beard = (np.asarray(Image.open(tmp_path / f"masks/{name}.png")) / 255 for name in ("bald", "beard"))
    assert bald[:7].mean() > 0.15 and bald[:7].mean() > 3 * bald[11:].mean()
    assert beard[9:14].mean() > 0.2 and beard[9:14].mean() > 3 * beard[:6].mean()
    mixing = ["mix", "--network", str(network), "--styles", str(tmp_path), "--rows", "0", "--cols", "1", "--mask", "beard"]
    assert main([*mixing, "--out", str(tmp_path / "mixes")]) == 0
    assert "regional 0-5 under beard" in capsys.readouterr().out
    for name, value in (("bald", 1.0), ("beard", -1.0)):
        write_style(tmp_path / f"{name}.npz", torch.randn(6, 8) + value, key="direction")
    assert main([*words, "--styles", str(tmp_path), "--out", str(tmp_path / "own")]) == 0
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == ["bald.png", "beard.png"]
    assert main([*words[:4], "--out", str(tmp_path / "none")]) == 2
    assert "--attributes is missing" in capsys.readouterr().err


# --- search under masks


def test_the_search_finds_the_mask_the_mode_and_the_average() -> None:
    """Critics that are content with the planted mask and the mean of the columns alone."""
    torch.manual_seed(2)
    rows, columns, w_avg = torch.randn(6, 3, 4), torch.randn(6, 3, 4), torch.zeros(4)
    masks = [find_mask(name, []) for name in ("lower", "mouth", "eyes")]
    wanted = masks[1].at(SIDE)

    def render(drawn: Mixture) -> torch.Tensor:
        area = torch.zeros(len(drawn)) if drawn.mask is None else 1 - (drawn.mask - wanted).abs().mean().expand(len(drawn))
        others = drawn.ws if drawn.others is None else drawn.others
        return torch.stack([area, 1 - (others - columns.mean(0)).abs().mean((1, 2))], 1)

    objective = Objective(rows, columns, w_avg, render, lambda seen: seen.T.clone(), SIDE)
    found = search(objective, uniform("crossover", [1, 2], 3), ["interpolate", "arithmetic", "regional"], masks)
    assert found.recipe.mask == masks[1] and found.recipe.average == 1 and found.score.least == pytest.approx(1, abs=1e-4)
    alone = Objective(rows, columns, w_avg, render, lambda seen: seen.T.clone(), SIDE)
    search(alone, uniform("arithmetic", [0, 1, 2], 3, 1.0, masks[0]), ["arithmetic"], masks[:1])
    assert {(recipe.mode, recipe.mask) for recipe in alone.known} == {("arithmetic", None), ("arithmetic", masks[0])}
    limited = Objective(rows, columns, w_avg, render, lambda seen: seen.T.clone(), SIDE, budget=10)
    assert search(limited, uniform("crossover", [1, 2], 3), ["interpolate", "regional"], masks).recipes == 10


# --- what is kept


def test_what_a_mix_keeps_is_told_from_what_it_loses() -> None:
    torch.manual_seed(5)
    rows = torch.rand(4, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:, :] = 1
    row_of = torch.arange(4).repeat_interleave(3)
    features = torch.eye(4)
    mixes = rows[row_of].clone()
    mixes[:, :, 4:] = torch.rand(12, 3, 4, 8)
    same = kept(mixes, rows, row_of, features[row_of], features, mask)
    assert same.outside == 0 and same.features == 0 and same.found == 1 and same.variety == pytest.approx(1)
    average = kept(rows.mean(0).expand(12, -1, -1, -1), rows, row_of, features.mean(0).expand(12, -1), features, mask)
    differences = [(rows[i, :, :4] - rows[j, :, :4]).abs().mean() for i in range(4) for j in range(i)]
    change = (rows[:, :, :4] - rows[:, :, :4].mean(0)).abs().mean()
    assert average.outside == pytest.approx(float(change / np.mean(differences)), rel=1e-4)
    assert average.found == 0.25 and average.variety == 0
    assert average.features == pytest.approx(float((0.75**2 + 3 * 0.25**2) ** 0.5 / 2**0.5), rel=1e-4)
    everywhere = kept(mixes, rows, row_of, features[row_of], features, torch.ones(1, 1, 8, 8))
    assert everywhere.outside is None and everywhere.found > 0.5
    shifted = rows[row_of] + mask * torch.linspace(0, 0.3, 12)[:, None, None, None]  # as much in every colour
    toned = kept(shifted, rows, row_of, features[row_of], features, mask)
    luma = (rows * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)[:, 4:].flatten(1)
    places = luma.argsort(dim=1, descending=True)[:, :8]  # a quarter of 32
    means = torch.stack([rows[i, :, 4:].flatten(1)[:, places[i]].mean(1) for i in range(4)])
    apart = np.mean([float((means[i] - means[j]).norm()) for i in range(4) for j in range(i)])
    assert toned.skin == pytest.approx(float(torch.linspace(0, 0.3, 12).mean()) * 3**0.5 / apart, rel=1e-4)
    assert same.skin is not None and same.skin > 0 and kept(rows[row_of], rows, row_of, features[row_of], features, mask).skin == 0
    assert kept(mixes, rows, row_of, features[row_of], features).skin is None
    single = kept(mixes[:3], rows[:1], row_of[:3], features[row_of[:3]], features[:1], mask)
    assert (single.outside, single.features, single.skin, single.variety, single.found) == (None, None, None, None, 1)


def test_where_there_is_no_mask_a_region_tells_of_outside_and_of_skin() -> None:
    torch.manual_seed(6)
    rows, row_of, features = torch.rand(4, 3, 8, 8), torch.arange(4).repeat_interleave(2), torch.eye(4)
    mask, other = (torch.zeros(1, 1, 8, 8) for _ in range(2))
    mask[..., 4:, :], other[..., :, 4:] = 1, 1
    mixes = torch.rand(8, 3, 8, 8)
    asked: list[int] = []

    def score_samples(face: Any, count: int) -> SimpleNamespace:
        asked.append(count)
        return SimpleNamespace(features={"_attr": features})

    evaluator: Any = SimpleNamespace(judge=SimpleNamespace(resolution=8), score_samples=score_samples)
    seen: Any = SimpleNamespace(features={"_attr": features[row_of]})
    plain, within = (kept(mixes, rows, row_of, features[row_of], features, where) for where in (None, mask))
    found = kept_by(evaluator, seen, mixes, rows, row_of, None, mask)
    assert (found.outside, found.skin) == (within.outside, within.skin) and None not in (found.outside, found.skin)
    assert (found.features, found.found, found.variety) == (plain.features, plain.found, plain.variety)
    assert (
        kept_by(evaluator, seen, mixes, rows, row_of, mask, other) == within
        and kept_by(evaluator, seen, mixes, rows, row_of, None) == plain
    )
    assert asked == [4, 4, 4]  # the rows are judged once a way


def test_a_run_learns_masks_from_no_face_that_it_holds_out() -> None:
    faces = open_faces("synthetic", SIDE, num=400, seed=0)
    rows = learned_from(TrainConfig(data="synthetic", attributes=("bald", "beard"), minimum_images=4), faces)
    bald, bearded = faces.table.column("Bald")[rows] == 1, faces.table.column("No_Beard")[rows] == 0
    assert 0 < len(rows) < 0.8 * len(faces.table.ids) and bald.any() and bearded.any() and not (bald & bearded).any()
