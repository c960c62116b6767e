"""Mixes refined: the objective restated, what it keeps, whom it asks, and the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import facegan
from facegan.checkpoints.networks import StyleGAN2Checkpoint, save_networks
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.models.regions import Regions
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.masks import find_mask
from facegan.styles.mix import Renderer
from facegan.styles.projection import own_styles
from facegan.styles.recipe import Mixture, uniform
from facegan.styles.refine import Refiner, outside_mask, skin, under_mask

SIDE, LAYERS, WIDTH = 16, 6, 8
CONFIG = StyleGAN2Config(resolution=SIDE, z_dim=8, w_dim=WIDTH, mapping_layers=2, channel_base=256, channel_max=16)
STEPS = 12


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(4)
    generator = Generator(CONFIG).eval().requires_grad_(False)
    generator.mapping.w_avg.normal_(std=0.1)
    return generator


@pytest.fixture(scope="module")
def network(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    save_networks(StyleGAN2Checkpoint(CONFIG, {"G_ema": generator.state_dict()}), folder)
    return folder


@pytest.fixture(scope="module")
def critics_run(train: Callable[..., Path]) -> Path:
    return train(critics="all", merge="none", switch_epoch=0)


class Critics:
    """Functions of images [N, 3, R, R], each a critic."""

    def __init__(self, *functions: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.functions = functions

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([function(images) for function in self.functions])


class Colours(Critics):
    """Critics that see an attribute where a colour channel is bright in the lower three quarters."""

    def __init__(self, *channels: int, offset: float = 0.5) -> None:
        super().__init__(*(lambda images, c=c: offset + images[:, c, SIDE // 4 :].mean((1, 2)) for c in channels))


def styles_of(generator: Generator, *seeds: int) -> torch.Tensor:
    return generator.mapping(torch.cat([torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float() for seed in seeds]))


def mixes_of(generator: Generator, mask: torch.Tensor, count: int = 3) -> tuple[Mixture, torch.Tensor]:
    columns = styles_of(generator, *range(10, 10 + count))
    return Mixture(styles_of(generator, *range(count)), columns, mask), columns


def drawn(generator: Generator, mixes: Mixture) -> torch.Tensor:
    return generator.synthesis(mixes.ws, "const", regions=Regions(mixes.others[:, None], mixes.mask))


def restated(generator: Generator, row: torch.Tensor, column: torch.Tensor, mask: np.ndarray, critics: Critics, styles: torch.Tensor):
    """The objective of one mix as the module's text has it, pixel by pixel, in float64: of the style under the mask, and of e.

    `styles` [16, w_dim]: of the faces whose differences are the measure of others.
    """

    def picture(ws: torch.Tensor, others: torch.Tensor | None = None) -> np.ndarray:
        regions = None if others is None else Regions(others[None, None], torch.from_numpy(mask)[None, None])
        return generator.synthesis(ws[None], "const", regions=regions)[0].double().numpy()

    def tone(image: np.ndarray) -> np.ndarray:
        places = [(y, x) for y in range(SIDE) for x in range(SIDE) if mask[y, x] > 0.5]
        chosen = sorted(places, key=lambda place: np.dot((0.299, 0.587, 0.114), image[:, place[0], place[1]]))
        return np.mean([image[:, y, x] for y, x in chosen[-max(1, round(len(places) / 4)) :]], axis=0)

    def seen(image: np.ndarray) -> np.ndarray:
        return critics.scores(torch.from_numpy(image)[None].float())[:, 0].double().numpy()

    face = picture(row)
    others = [picture(style.expand(LAYERS, -1)) for style in styles]
    apart = np.mean([np.abs(others[k] - others[k - 1]).mean() for k in range(len(others))])
    shown = np.max([seen(image) for image in (face, picture(column), picture(row, column))], axis=0)
    goal = np.array([1.0 if score > 0.5 else score for score in shown])

    def objective(others: torch.Tensor, e: np.ndarray) -> float:
        image = picture(row, others)
        free = [np.abs(image[:, y, x] - face[:, y, x]) for y in range(SIDE) for x in range(SIDE) if mask[y, x] == 0]
        total = 3 * np.abs(tone(image) - tone(face)).sum() + 0.05 * np.mean([np.dot(layer, layer) for layer in e])
        total += 2 * np.mean(free) / apart if free else 0
        return float(total + 2 * sum(max(0.0, wanted - found) for wanted, found in zip(goal, seen(image), strict=True)))

    return objective, goal


@pytest.mark.parametrize("softness", [0.0, 0.1])
def test_the_objective_is_the_one_that_is_written(generator: Generator, softness: float) -> None:
    """Its value, and its gradient along random directions, at random changes of the styles; critics that see their attribute in the row
    alone, in the column alone, and nowhere quite."""
    mask = find_mask("lower", [], softness).at(SIDE)
    mixes, columns = mixes_of(generator, mask)
    level = generator.synthesis(torch.cat([mixes.ws, columns]), "const")[:, 0].mean()
    critics = Critics(lambda x: 0.5 + 3 * (x[:, 0].mean((1, 2)) - level), lambda x: 0.4 + 0.1 * x[:, 2].mean((1, 2)))
    refiner = Refiner(Renderer(generator, batch=3), critics, 1)
    goal = refiner.goal(mixes, columns)
    styles = own_styles(generator)[:16]
    random = torch.Generator().manual_seed(3)
    e = (0.5 * torch.randn(mixes.ws.shape, generator=random)).requires_grad_()
    losses = refiner.losses(mixes, e, goal)
    (gradient,) = torch.autograd.grad(losses.sum(), e)
    compared = 0
    for index in range(3):
        objective, wanted = restated(generator, mixes.ws[index], columns[index], mask[0, 0].numpy(), critics, styles)
        torch.testing.assert_close(goal.scores[:, index].double(), torch.from_numpy(wanted), rtol=1e-4, atol=1e-4)
        own = e.detach()[index]
        assert losses[index].item() == pytest.approx(objective(columns[index] + own @ refiner.spread.T, own.double().numpy()), rel=1e-4)
        for _ in range(6):
            direction, slopes = torch.randn(own.shape, generator=random), []
            for step in (1e-3, 3e-4):
                up, down = (
                    objective(columns[index] + place @ refiner.spread.T, place.double().numpy())
                    for place in (own + step * direction, own - step * direction)
                )
                slopes.append((up - down) / (2 * step))
            if abs(slopes[0] - slopes[1]) < 0.1:  # else it jumps, as where two pixels of one brightness change places
                compared += 1
                assert (gradient[index] * direction).sum().item() == pytest.approx(slopes[0], rel=0.05, abs=0.05)
    assert compared >= 9


def test_steps_are_those_of_adam(generator: Generator) -> None:
    """The moves of two steps, restated: rate 0.05, means over 0.9 and 0.99."""
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    refiner = Refiner(Renderer(generator, batch=3), Colours(0), 2)
    goal, e, first, second = refiner.goal(mixes, columns), torch.zeros(mixes.ws.shape), 0.0, 0.0
    for count in (1, 2):
        leaf = e.clone().requires_grad_()
        (slope,) = torch.autograd.grad(refiner.losses(mixes, leaf, goal).sum(), leaf)
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        e = e - 0.05 * (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-8)
    torch.testing.assert_close(refiner(mixes, columns).others, mixes.others + e @ refiner.spread.T, rtol=0, atol=2e-3)


def test_a_change_is_counted_in_deviations_of_the_networks_own_styles(generator: Generator) -> None:
    refiner = Refiner(Renderer(generator), Colours(0), 1)
    z = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    own = generator.mapping(z)[:, 0]
    white = torch.linalg.solve(refiner.spread, (own - own.mean(0)).T)
    torch.testing.assert_close(torch.cov(white), torch.eye(WIDTH), rtol=0, atol=0.06)


def test_the_skin_comes_nearer_and_what_is_outside_stays(generator: Generator) -> None:
    mask, critics = find_mask("lower", [], 0.05).at(SIDE), Colours(0, 1)
    mixes, columns = mixes_of(generator, mask, 5)
    before = mixes.others.clone()
    found = Refiner(Renderer(generator, batch=3), critics, STEPS)(mixes, columns)
    assert torch.equal(mixes.others, before) and torch.equal(found.ws, mixes.ws) and found.mask is mixes.mask
    faces = generator.synthesis(mixes.ws, "const")
    tones, changes = ([], [])
    for each in (mixes, found):
        images = drawn(generator, each)
        tones.append((skin(images, under_mask(mask)) - skin(faces, under_mask(mask))).abs().sum(1))
        changes.append((images - faces)[..., mask[0, 0] == 0].abs().mean())
    assert (tones[1] < 0.7 * tones[0]).all() and changes[1] < changes[0]


def test_each_mix_is_refined_for_itself(generator: Generator) -> None:
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE), 4)
    together, alone = (Refiner(Renderer(generator, batch=batch), Colours(0), STEPS)(mixes, columns).others for batch in (4, 1))
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3)


def test_what_is_shown_is_not_lost_and_nothing_else_asked_for(generator: Generator) -> None:
    """Goals of critics that see their attribute in the row, in the column, only in the mix, hardly, and not at all."""
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    pictures = [generator.synthesis(mixes.ws, "const"), generator.synthesis(columns, "const"), drawn(generator, mixes)]

    def sees(which: int, there: float, elsewhere: float = -0.2) -> Callable:
        return lambda images: torch.where((images - pictures[which]).abs().mean((1, 2, 3)) < 1e-3, there, elsewhere)

    critics = Critics(sees(0, 0.6), sees(1, 0.8), sees(2, 1.7), sees(1, 0.45), sees(2, 0.3), sees(0, -0.1), sees(2, 0.0, 0.1))
    scores = Refiner(Renderer(generator, batch=3), critics, 1).goal(mixes, columns).scores
    torch.testing.assert_close(scores, torch.tensor([1, 1, 1, 0.45, 0.3, -0.1, 0.1])[:, None].expand(-1, 3))


def test_a_critic_that_has_seen_enough_has_no_part(generator: Generator) -> None:
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    asked = (Critics(lambda images: 0 * images.sum((1, 2, 3)) - 1), Colours(0, offset=9), Colours(0, offset=0.8))
    blind, content, seeing = (Refiner(Renderer(generator, batch=3), critics, STEPS)(mixes, columns).others for critics in asked)
    torch.testing.assert_close(blind, content, rtol=0, atol=0)
    scores = [Colours(0).scores(drawn(generator, Mixture(mixes.ws, others, mixes.mask)))[0] for others in (blind, seeing)]
    assert (scores[1] > scores[0]).all()


def test_in_inference_mode_too(generator: Generator) -> None:
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    expected = Refiner(Renderer(generator, batch=3), Colours(0), 2)(mixes, columns).others
    with torch.inference_mode():
        same = Mixture(mixes.ws + 0, mixes.others + 0, mixes.mask + 0)
        found = Refiner(Renderer(generator, batch=3), Colours(0), 2)(same, columns + 0).others
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [1.0, 0.4])
def test_a_mask_may_leave_nothing_outside_or_no_skin(generator: Generator, value: float) -> None:
    mask = torch.full((1, 1, SIDE, SIDE), value)
    mixes, columns = mixes_of(generator, mask)
    found = Refiner(Renderer(generator, batch=3), Colours(0, offset=0.9), 3)(mixes, columns)
    assert found.others.isfinite().all() and not torch.equal(found.others, mixes.others)
    assert (len(under_mask(mask)), len(outside_mask(mask))) == (SIDE**2 if value > 0.5 else 0, 0)


def test_in_channels_only_these_move(generator: Generator) -> None:
    channels = tuple(("b16.conv1", channel) for channel in range(4))
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    mixes = Mixture(mixes.ws, mixes.others, mixes.mask, channels)
    found = Refiner(Renderer(generator, batch=3), Colours(0), 3)(mixes, columns)
    assert found.channels == channels and not torch.equal(found.others, mixes.others)
    space = generator.synthesis.style_space(mixes.ws)
    before = 0
    for layer, count in CONFIG.style_channels.items():
        if layer == "b16.conv1":
            break
        before += count
    points = torch.lerp(space, generator.synthesis.style_space(found.others), torch.eye(len(space[0]))[before : before + 4].sum(0))
    expected = generator.synthesis(space, "const", regions=Regions(points[:, None], mixes.mask))
    torch.testing.assert_close(Renderer(generator, batch=3)(found), expected, rtol=1e-5, atol=1e-5)


# --- the commands


def test_mixes_are_refined_by_a_command(network: Path, critics_run: Path, tmp_path: Path) -> None:
    words = ["mix", "--network", str(network), "--rows", "0-1", "--cols", "4-5", "--mask", "lower"]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert main([*words, "--refine", "4", "--critics", str(critics_run), "--out", str(tmp_path / "refined")]) == 0
    plain, refined = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("plain", "refined"))
    assert plain.keys() == refined.keys() and plain["recipe.json"] == refined["recipe.json"]
    changed = {name for name in plain if plain[name] != refined[name]}
    assert changed == {"grid.png", *(f"row-seed000{row}_col-seed000{column}.png" for row in (0, 1) for column in (4, 5))}
    gan = facegan.StyleGAN.from_pretrained(network)
    mixes = gan.mix(["0", "1"], ["4", "5"], mask="lower", refine=4, critics=str(critics_run))
    saved = mixes.save(tmp_path / "python").parent
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == refined


def test_the_critics_of_the_networks_own_run_are_asked_where_none_are_named(train: Callable[..., Path]) -> None:
    run = train(method="b", critics="all", kimg=0.05)
    gan = facegan.StyleGAN.from_pretrained(run)
    plain, refined = (gan.mix(["0"], ["4"], mask="lower", refine=steps).tensors for steps in (0, 2))
    assert not torch.equal(plain, refined)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"refine": 3, "mask": "lower"}, "is no run of `facegan train`: name one with `critics=RUN`"),
        ({"refine": 3, "layers": "2-3"}, "`refine` needs a mask, and crossover 2-3 has none: name one by `mask`"),
        ({"refine": -1, "mask": "lower"}, "`refine` is -1"),
        ({"refine": 3, "recipe": "RECIPE"}, "and interpolate 0-5 has none: name another recipe"),
        ({"critics": "somewhere"}, "`critics` are asked where mixes are refined: give `refine` some steps"),
    ],
)
def test_what_cannot_be_refined_is_told(network: Path, flags: dict, words: str, tmp_path: Path) -> None:
    if "recipe" in flags:
        flags = {**flags, "recipe": str(tmp_path / "recipe.json")}
        uniform("interpolate", range(LAYERS), LAYERS).write(tmp_path / "recipe.json")
    with pytest.raises(FaceganError, match=words.replace("(", r"\(")):
        facegan.StyleGAN.from_pretrained(network).mix(["0"], ["4"], **flags)
