"""Channels of style space: how they are found, on networks where the answer is known or can be measured, their files, and mixes in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import facegan
from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.channels import Channel, Ranking, find_channels, read_channels
from facegan.styles.learned_channels import energies, ranked
from facegan.styles.masks import find_mask
from facegan.styles.mix import Renderer
from facegan.styles.recipe import MODES, Channels, Mask, Mixture, Mode, Recipe, mixture, uniform
from facegan.styles.search import Objective, family_of, numbers_of, search
from facegan.styles.store import write_styles

SIDE, LAYERS = 16, 6
CONFIG = StyleGAN2Config(resolution=SIDE, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(4)
    return Generator(CONFIG).requires_grad_(False)


@pytest.fixture(scope="module")
def network(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    save_networks(StyleGAN2Checkpoint(CONFIG, {"G_ema": generator.state_dict()}), folder)
    return folder


ENTRY = {"layer": "b8.conv0", "channel": 3, "inside": 0.5, "distance": 1.0, "effect": 1.0}  # of a file


def every(config: StyleGAN2Config) -> list[tuple[str, int]]:
    return [(layer, channel) for layer, count in config.style_channels.items() for channel in range(count)]


# --- how they are found


def test_energies_of_all_channels_are_those_of_finite_differences(generator: Generator) -> None:
    """One channel after the other is moved, and the change of the image squared under the mask and outside of it."""
    ws = generator.mapping(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)))
    points, mask = generator.synthesis.style_space(ws), find_mask("lower", []).at(SIDE)
    found = energies(generator.synthesis, points, mask, probes=600, batch=3)
    expected = torch.zeros(2, points.shape[1], dtype=torch.float64)
    for channel in range(points.shape[1]):
        step = torch.zeros(points.shape[1])
        step[channel] = 1e-2
        up, down = (generator.synthesis(points + sign * step, "const").double() for sign in (1, -1))
        squares = ((up - down) / 2e-2).square()
        expected[:, channel] = torch.stack([(squares * part).sum() for part in (mask, 1 - mask)]) / len(points)
    # sqrt(2 / (4 * 600)) of a channel's own energy is one standard deviation, where a single direction of the image has all of it
    kept = expected > 1e-3 * expected.amax()
    assert kept.float().mean() > 0.5
    relative = (found - expected)[kept] / expected[kept]
    assert relative.abs().max() < 0.16 and relative.mean().abs() < 0.02


class Painted(torch.nn.Module):
    """A network of 4 channels: the first lights the lower half, the second all, the third nothing, the fourth the upper half."""

    def __init__(self) -> None:
        super().__init__()
        lower = (torch.arange(SIDE) >= SIDE // 2).float()[:, None].expand(SIDE, SIDE)
        self.parts = torch.stack([2 * lower, torch.ones(SIDE, SIDE), torch.zeros(SIDE, SIDE), 1 - lower])

    def forward(self, points: torch.Tensor, noise_mode: str) -> torch.Tensor:
        return torch.einsum("nc,chw->nhw", points, self.parts)[:, None].expand(-1, 3, -1, -1)


def test_a_channel_that_lights_one_region_is_ranked_first_where_the_attribute_has_it() -> None:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., SIDE // 2 :, :] = 1
    energy = energies(Painted(), torch.randn(8, 4), mask, probes=200)
    half = 3 * SIDE * SIDE / 2
    np.testing.assert_allclose(energy, [[4 * half, half, 0, 0], [0, half, 0, half]], rtol=0.25)
    assert (energy == 0).tolist() == [[False, False, True, True], [True, False, True, False]]
    generator = type("Four", (), {"config": type("Config", (), {"style_channels": {"b4.conv1": 3, "b4.torgb": 1}})})()
    random = torch.tensor([[-1.0, -1, -1, -1], [1, 1, 1, 1]])  # mean 0, standard deviation 1
    own = torch.tensor([[0.5, -1.0, 9.0, 1.0], [1.5, -2.0, 9.0, 2.0]])
    first, second = ranked(generator, energy, own, random)  # the others change nothing under the mask
    assert (first.layer, first.channel, second.layer, second.channel) == ("b4.conv1", 0, "b4.conv1", 1)
    assert (first.inside, first.distance, second.distance) == (1.0, 1.0, -1.5)
    assert second.inside == pytest.approx(0.5, abs=0.05) and first.effect == pytest.approx((4 * half) ** 0.5, rel=0.15)
    with pytest.raises(FaceganError, match="no channel changes anything under the mask"):
        ranked(generator, energy, torch.zeros(2, 4), random)


def test_the_command_finds_channels_that_mix_takes(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("bald", 1.0), ("beard", -1.0)):
        write_styles(tmp_path / f"{name}.npz", torch.randn(5, LAYERS, 8) + value)
    words = ["styles", "channels", "--network", str(network), "--styles", str(tmp_path), "--faces", "4", "--device", "cpu"]
    assert main([*words, "--attributes", "bald,beard", "--mask", "mouth", "--out", str(tmp_path / "channels")]) == 0
    ranking = read_channels(tmp_path / "channels/beard.json", CONFIG)
    assert (ranking.attribute, ranking.mask, ranking.faces) == ("beard", "mouth", 4)
    worth = [each.inside * each.effect for each in ranking.channels]
    assert worth == sorted(worth, reverse=True) and len({(each.layer, each.channel) for each in ranking.channels}) == len(worth)
    capsys.readouterr()
    mixing = ["mix", "--network", str(network), "--styles", str(tmp_path), "--rows", "0", "--cols", "beard", "--device", "cpu"]
    with caplog.at_level("INFO"):
        assert main([*mixing, "--mode", "stylespace", "--number", "7", "--out", str(tmp_path / "a")]) == 0
    assert "the columns' scales go to the network's channels of beard" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):  # by the name of their file too
        line = [str(tmp_path / "beard.npz") if word == "beard" else word for word in mixing]
        assert main([*line, "--mode", "stylespace", "--number", "7", "--out", str(tmp_path / "d")]) == 0
    assert "the columns' scales go to the network's channels of beard" in caplog.text
    assert (tmp_path / "a/recipe.json").read_bytes() == (tmp_path / "d/recipe.json").read_bytes()
    assert "stylespace 0-5 in 7 channels" in capsys.readouterr().out
    record = json.loads((tmp_path / "a/recipe.json").read_text())
    assert record["channels"] == [[each.layer, each.channel] for each in ranking.channels[:7]]
    assert main([*mixing, "--recipe", str(tmp_path / "a/recipe.json"), "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/grid.png").read_bytes() == (tmp_path / "b/grid.png").read_bytes()
    words = ["--channels", "bald", "--weight", "1.5", "--average", "1", "--mask", "lower", "--out", str(tmp_path / "c")]
    assert main([*mixing, *words]) == 0
    assert "stylespace 0-5:1.5 under lower in 80 channels, columns 1 to their mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mix", "--rows", "0", "--cols", "1", "--mode", "stylespace"], "--channels is missing: this network has none; name one, or find"),
        (
            ["mix", "--rows", "0", "--cols", "1", "--channels", "beard"],
            "--channels is 'beard': expected a file that `facegan styles channels",
        ),
        (["mix", "--rows", "0", "--cols", "1", "--channels", "NET/config.json"], "config.json is no ranking of channels"),
        (["mix", "--rows", "0", "--cols", "1", "--number", "4"], "--number is that of channels"),
        (["mix", "--rows", "0", "--cols", "1", "--mode", "stylespace", "--number", "0"], "--number is 0: expected at least 1 channel"),
        (["styles", "channels"], "--attributes is missing"),
        (["styles", "channels", "--attributes", "beard"], "--mask is 'beard': expected lower, upper, mouth, eyes"),
        (["styles", "channels", "--attributes", "beard", "--mask", "mouth"], "style 'beard' is unknown"),
        (["styles", "channels", "--attributes", "beard", "--faces", "0"], "--faces is 0"),
        (
            ["styles", "channels", "--attributes", "styles/beard.npz", "--mask", "mouth"],
            "--attributes has 'styles/beard.npz': expected names",
        ),
        (
            ["styles", "channels", "--attributes", "beard,bald,beard", "--mask", "mouth"],
            "--attributes names 'beard' 2 times: name each once",
        ),
        (["styles", "mask", "--attributes", "bald,st/beard"], "--attributes has 'st/beard': expected names"),
        (["styles", "mask", "--attributes", "bald,bald,beard"], "--attributes names 'bald' 2 times: name each once"),
    ],
)
def test_mistakes_are_sentences(words: list[str], said: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = [word.replace("NET", str(network)) for word in words]
    assert main([*line, "--network", str(network), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


# --- their files


def test_a_ranking_comes_back_from_its_file(tmp_path: Path) -> None:
    ranking = Ranking("beard", "mouth", 64, (Channel("b8.conv0", 3, 0.75, -1.5, 2.0), Channel("b16.torgb", 0, 0.5, 0.25, 0.125)))
    ranking.write(tmp_path / "channels/beard.json")
    assert find_channels("beard", [tmp_path / "none", tmp_path / "channels"], CONFIG) == ranking
    assert find_channels(str(tmp_path / "channels/beard.json"), [], CONFIG) == ranking
    assert ranking.first(1) == (("b8.conv0", 3),) and ranking.first(9) == (("b8.conv0", 3), ("b16.torgb", 0))
    assert len((tmp_path / "channels/beard.json").read_text().splitlines()) == 2 + len(ranking.channels)
    with pytest.raises(FaceganError, match="`channels` is 'bald': expected one of beard, or a file that"):
        find_channels("bald", [tmp_path / "channels"], CONFIG)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": []}, "it names no channel"),
        ({"channels": [{"layer": "b8.conv0", "channel": 3}]}, "does not say"),
        ({"faces": 0}, "faces is 0"),
        ({"attribute": None}, "attribute"),
        ({"channels": [ENTRY, ENTRY]}, "name channel 3 of b8.conv0 twice"),
        ({"layer": "b32.conv0"}, "channel 3 of b32.conv0, where this network has layers b4.conv1, b4.torgb"),
        ({"channel": 16}, "channel 16 of b8.conv0, where this network has 16 channels"),
        ({"channel": -1}, "expected 0 or more"),
        ({"channel": 2.5}, "expected a whole number"),
        ({"inside": 1.5}, "expected 0 to 1"),
        ({"distance": float("nan")}, "is no ranking"),
    ],
)
def test_a_damaged_ranking_is_a_sentence(change: dict, said: str, tmp_path: Path) -> None:
    entry = ENTRY | {key: value for key, value in change.items() if key in ENTRY}
    record = {"attribute": "beard", "mask": "mouth", "faces": 4, "channels": [entry]}
    record |= {key: value for key, value in change.items() if key in record}
    (tmp_path / "beard.json").write_text(json.dumps(record))
    with pytest.raises(FaceganError) as caught:
        read_channels(tmp_path / "beard.json", CONFIG)
    assert said in str(caught.value) and str(caught.value).count("`facegan styles channels`") == 1


# --- recipes


def test_a_recipe_keeps_its_channels(tmp_path: Path) -> None:
    recipe = Recipe("stylespace", (1.5,) * LAYERS, None, 0.5, (("b8.conv0", 3), ("b16.torgb", 7)))
    recipe.write(tmp_path / "recipe.json")
    again = Recipe.read(tmp_path / "recipe.json", LAYERS, CONFIG)
    assert again == recipe and hash(again) == hash(recipe)
    assert again.describe() == "stylespace 0-5:1.5 in 2 channels, columns 0.5 to their mean"
    assert json.loads((tmp_path / "recipe.json").read_text())["channels"] == [["b8.conv0", 3], ["b16.torgb", 7]]
    assert "channels" not in Recipe("crossover", (0.0, 1.0)).to_json()  # as older versions wrote them
    with pytest.raises(FaceganError, match="channel 3 of b8.conv0, where this network has layers b4.conv1, b4.torgb"):
        Recipe.read(tmp_path / "recipe.json", LAYERS, StyleGAN2Config(resolution=4))


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (None, "no recipe"),
        ([], "there are no channels that it could take"),
        ([["b8.conv0"]], "expected a list of 2"),
        ([["b8.conv0", "3"]], "expected a whole number"),
        ([["b8.conv0", 3], ["b8.conv0", 3]], "name channel 3 of b8.conv0 twice"),
        ([["b8.conv9", 3]], "channel 3 of b8.conv9"),
        ([["b8.conv0", -1]], "channel -1 of b8.conv0"),
    ],
)
def test_a_damaged_recipe_is_a_sentence(channels: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"mode": "stylespace", "weights": [1.0] * LAYERS, "channels": channels}))
    with pytest.raises(FaceganError) as caught:
        Recipe.read(tmp_path / "recipe.json", LAYERS, CONFIG)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "channels", [(("b8.conv0", 1.5),), (("b8.conv0", True),), (("b8.conv0",),), [("b8.conv0", 1)], ((3, 1),), "b8.conv0"]
)
def test_python_gives_a_recipe_pairs_of_layer_and_channel(channels: Any) -> None:
    with pytest.raises(FaceganError, match=r"channels of mixing hold .*; expected a tuple of pairs such as \('b8.conv0', 76\)"):
        Recipe("stylespace", (1.0,) * LAYERS, channels=channels)


# --- mixes


def drawn(generator: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, [4, num_ws, w_dim] each; W+, so that layers are told apart."""
    random = torch.Generator().manual_seed(8)
    return torch.randn(4, LAYERS, 8, generator=random), torch.randn(4, LAYERS, 8, generator=random)


def test_all_channels_are_the_column_and_those_without_weight_the_row(generator: Generator) -> None:
    rows, columns = drawn(generator)
    draw = Renderer(generator, batch=2)
    channels = tuple(every(CONFIG))
    for weight, expected in ((1.0, columns), (0.0, rows)):
        recipe = uniform("stylespace", range(LAYERS), LAYERS, weight, None, channels)
        assert torch.equal(draw(mixture(rows, columns, recipe, draw.w_avg, SIDE)), draw(expected))
    later = uniform("stylespace", range(3, LAYERS), LAYERS, 1.0, None, channels)
    torch.testing.assert_close(
        draw(mixture(rows, columns, later, draw.w_avg, SIDE)), draw(torch.cat([rows[:, :3], columns[:, 3:]], 1)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("mode", ["stylespace", "arithmetic"])
def test_a_mix_in_a_few_channels_is_its_restatement(generator: Generator, mode: str) -> None:
    """The layers' affine maps by hand, in float64, the chosen entries replaced by the formula of the mode, and the layers called."""
    rows, columns = drawn(generator)
    channels = (("b4.conv1", 2), ("b8.conv0", 0), ("b8.conv0", 15), ("b16.torgb", 4))
    recipe = Recipe(mode, (0.5, 2.0, 1.0, 1.0, 1.0, -1.0), None, 0.25, channels)
    w_avg = torch.linspace(-1, 1, 8)
    found = Renderer(generator, batch=3)(mixture(rows, columns, recipe, w_avg, SIDE))

    synthesis = generator.synthesis
    drawn_in = columns + 0.25 * (columns.mean(0) - columns)
    uses = {"b4.conv1": 0, "b4.torgb": 1, "b8.conv0": 1, "b8.conv1": 2, "b8.torgb": 3, "b16.conv0": 3, "b16.conv1": 4, "b16.torgb": 5}
    styles = {}
    for layer, index in uses.items():
        module = synthesis.get_submodule(layer)
        weight, bias = module.affine.weight.double() / 8**0.5, module.affine.bias.double()
        own, other = (each[:, index].double() @ weight.T + bias for each in (rows, drawn_in))
        base = w_avg.double() @ weight.T + bias if mode == "arithmetic" else own
        for name, channel in channels:
            if name == layer:
                own[:, channel] += recipe.weights[index] * (other - base)[:, channel]
        styles[layer] = own.float() / (len(bias) ** 0.5 if layer.endswith("torgb") else 1)
    x, image = synthesis.b4.const.expand(4, -1, -1, -1), None
    for size in (4, 8, 16):
        block = synthesis.get_submodule(f"b{size}")
        for name, layer in block.styled.items():
            if name != "torgb":
                x = layer(x, styles[f"b{size}.{name}"], layer.noise_const)
        colours = block.torgb(x, styles[f"b{size}.torgb"])
        image = colours if image is None else facegan.ops.upsample2d(image, synthesis.resample_filter) + colours
    torch.testing.assert_close(found, image, rtol=1e-4, atol=1e-4)


def test_under_a_mask_channels_change_that_part_alone(generator: Generator) -> None:
    rows, columns = drawn(generator)
    draw = Renderer(generator)
    channels = (("b16.conv1", 1), ("b16.conv1", 3), ("b16.torgb", 0))  # at the last size, where nothing spreads
    mask = find_mask("lower", [], 0.0)
    change = [
        (
            draw(mixture(rows, columns, uniform("stylespace", range(LAYERS), LAYERS, 1.0, each, channels), draw.w_avg, SIDE)) - draw(rows)
        ).abs()
        for each in (None, mask)
    ]
    assert change[1][:, :, :6].max() < 1e-5 < 1e-3 < change[1][:, :, 10:].mean() and change[0][:, :, :6].mean() > 1e-3
    torch.testing.assert_close(change[1][:, :, 10:], change[0][:, :, 10:], rtol=1e-3, atol=1e-4)


def test_python_mixes_in_channels_and_a_saved_network_keeps_its_own(network: Path, tmp_path: Path) -> None:
    folder = facegan.load(network, device="cpu").save_pretrained(tmp_path / "net")
    Ranking("beard", "mouth", 1, tuple(Channel("b8.conv0", index, 1.0, 1.0, 1.0) for index in range(5))).write(
        folder / "channels/beard.json"
    )
    net = facegan.load(folder, device="cpu")
    mixes = net.mix(rows=["0-1"], cols=["2"], mode="stylespace", number=2)  # the network's only ones
    assert mixes.recipe.channels == (("b8.conv0", 0), ("b8.conv0", 1))
    assert not torch.equal(mixes.tensors[0, 0], mixes.rows[0])
    again = net.mix(rows=["0-1"], cols=["2"], channels="beard", number=2, mode="interpolate")
    assert torch.equal(again.tensors, mixes.tensors)
    again.save(tmp_path / "mixes")
    (folder / "recipe.json").write_bytes((tmp_path / "mixes/recipe.json").read_bytes())
    copy = facegan.load(facegan.load(folder, device="cpu").save_pretrained(tmp_path / "copy"), device="cpu")
    assert torch.equal(copy.mix(rows=["0-1"], cols=["2"]).tensors, mixes.tensors)  # by the recipe beside it
    assert read_channels(tmp_path / "copy/channels/beard.json", open_networks(tmp_path / "copy").config).faces == 1


# --- search


def contented(number: int, weight: float, average: float, mask: Mask | None, direction: bool) -> tuple[Objective, Channels]:
    """Critics that want so many channels, with this weight of columns so far averaged, under this mask or everywhere."""
    torch.manual_seed(2)
    rows, columns, w_avg = torch.randn(6, 3, 4), torch.randn(6, 3, 4), torch.ones(4)
    channels = tuple((f"b{size}.conv1", index) for size in (4, 8) for index in range(50))
    target = rows + weight * (columns + average * (columns.mean(0) - columns) - (w_avg if direction else rows))
    wanted = torch.ones(1, 1, SIDE, SIDE) if mask is None else mask.at(SIDE)

    def render(mixed: Mixture) -> torch.Tensor:
        others = mixed.ws if mixed.others is None else mixed.others
        area = torch.ones(1, 1, SIDE, SIDE) if mixed.mask is None else mixed.mask
        said = 1 - abs(len(mixed.channels) - number) / 200 - 0.2 * (area - wanted).abs().mean()
        return torch.stack([1 - 0.1 * (others - target).abs().mean((1, 2)), said.expand(len(mixed))], 1)

    return Objective(rows, columns, w_avg, render, lambda seen: seen.T.clone(), SIDE), channels


@pytest.mark.parametrize(
    ("number", "weight", "average", "masked", "direction"),
    [(40, 1.5, 0.5, False, False), (100, 3.0, 1.0, True, True), (20, 2.0, 0.0, True, False)],
)
def test_the_search_finds_which_channels_how_much_of_them_and_where(
    number: int, weight: float, average: float, masked: bool, direction: bool
) -> None:
    masks = [find_mask(name, []) for name in ("lower", "mouth")]
    mask = masks[1] if masked else None
    objective, channels = contented(number, weight, average, mask, direction)
    start = uniform("crossover", [1, 2], 3)
    found = search(objective, start, ["interpolate", "arithmetic", "regional", "stylespace"], masks, channels)
    recipe = Recipe("arithmetic" if direction else "stylespace", (weight,) * 3, mask, average, channels[:number])
    assert found.recipe == recipe and found.score.least == pytest.approx(1, abs=1e-5)
    assert {*found.best} == {"layers", "regional", "stylespace"} and found.best["stylespace"] == recipe
    assert all(family_of(best) == family for family, best in found.best.items())
    assert numbers_of(channels) == [10, 20, 40, 80, 100]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alone", [False, True])
def test_a_search_goes_on_from_channels_in_any_mode(mode: Mode, alone: bool) -> None:
    objective, channels = contented(20, 2.0, 0.0, None, False)
    masks = [find_mask("lower", [])]
    start = uniform(mode, [1, 2], 3, 1.0, masks[0], channels[:10])
    found = search(objective, start, [mode] if alone else MODES, masks, channels)
    assert found.score >= objective(start) and (not alone or found.recipe.mode == mode)


def test_a_search_keeps_its_budget_and_to_the_modes_that_are_asked_for() -> None:
    objective, channels = contented(20, 2.0, 0.0, None, False)
    start = uniform("stylespace", range(3), 3, 1.0, None, channels[:5])
    assert {family_of(recipe) for recipe, _ in search(objective, start, ["stylespace"], (), channels).ranges} == {"stylespace"}
    assert {recipe.mode for recipe in objective.known} == {"interpolate"} and all(recipe.channels for recipe in objective.known)
    objective, channels = contented(20, 2.0, 0.0, None, False)
    objective.budget = 7
    assert search(objective, start, ["interpolate", "stylespace"], (), channels).recipes == 7
    objective, channels = contented(20, 2.0, 0.0, None, False)
    objective.budget = 5  # ranges of layers, of which there are 6: no recipe in channels is tried, and so none is the best of those
    assert {*search(objective, start, ["interpolate", "stylespace"], (), channels).best} == {"layers"}
