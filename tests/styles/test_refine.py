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
from facegan.styles.recipe import Mixture
from facegan.styles.refine import RATE, Refiner, outside, skin
from facegan.styles.rendering import Renderer

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


class Colours:
    """Critics that see an attribute where a colour channel is bright under a part of the image; counts how often they are asked."""

    def __init__(self, *channels: int, offset: float = 0.5) -> None:
        self.channels, self.offset, self.asked = channels, offset, 0

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return torch.stack([self.offset + images[:, channel, SIDE // 4 :].mean((1, 2)) for channel in self.channels])


def styles_of(generator: Generator, *seeds: int) -> torch.Tensor:
    return generator.mapping(torch.cat([torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float() for seed in seeds]))


def mixes_of(generator: Generator, mask: torch.Tensor, count: int = 3) -> tuple[Mixture, torch.Tensor]:
    columns = styles_of(generator, *range(10, 10 + count))
    return Mixture(styles_of(generator, *range(count)), columns, mask), columns


def drawn(generator: Generator, mixes: Mixture) -> torch.Tensor:
    return generator.synthesis(mixes.ws, "const", regions=Regions(mixes.others[:, None], mixes.mask))


def restated(generator: Generator, row: torch.Tensor, column: torch.Tensor, mask: np.ndarray, critics: Colours, apart: float) -> Callable:
    """The objective of one mix as the module's text has it, pixel by pixel, in float64: of the style under the mask."""

    def picture(ws: torch.Tensor, others: torch.Tensor | None = None) -> np.ndarray:
        regions = None if others is None else Regions(others[None, None], torch.from_numpy(mask)[None, None])
        return generator.synthesis(ws[None], "const", regions=regions)[0].double().numpy()

    def tone(image: np.ndarray) -> np.ndarray:
        places = [(y, x) for y in range(SIDE) for x in range(SIDE) if mask[y, x] > 0.5]
        brightness = lambda place: float(np.dot((0.299, 0.587, 0.114), image[:, place[0], place[1]]))  # noqa: E731
        chosen = sorted(places, key=brightness, reverse=True)[: max(1, round(len(places) / 4))]
        return np.mean([image[:, y, x] for y, x in chosen], axis=0)

    def seen(image: np.ndarray) -> np.ndarray:
        return critics.scores(torch.from_numpy(image)[None])[:, 0].numpy()

    face = picture(row)
    wanted = np.max([seen(image) for image in (face, picture(column), picture(row, column))], axis=0) > 0.5

    def objective(others: torch.Tensor, e: np.ndarray) -> float:
        image = picture(row, others)
        free = [np.abs(image[:, y, x] - face[:, y, x]) for y in range(SIDE) for x in range(SIDE) if mask[y, x] == 0]
        total = 3 * np.abs(tone(image) - tone(face)).sum() + 0.05 * np.mean(np.sum(e**2, axis=1))
        total += 2 * np.mean(free) / apart if free else 0
        return float(total + 2 * np.sum(np.where(wanted, np.maximum(0, 1 - seen(image)), 0)))

    return objective


@pytest.mark.parametrize("softness", [0.0, 0.1])
def test_the_first_step_goes_down_the_objective_as_it_is_written(generator: Generator, softness: float) -> None:
    """Adam's first step has the length of its rate in every coordinate, and the direction of the gradient's sign."""
    mask, critics = find_mask("lower", [], softness).at(SIDE), Colours(0, 2)
    mixes, columns = mixes_of(generator, mask)
    refiner = Refiner(Renderer(generator, batch=2), critics, 1)
    moved = refiner(mixes, columns).others - mixes.others
    e = torch.linalg.solve(refiner.spread, moved.transpose(1, 2)).transpose(1, 2)  # of what [..., w_dim] @ spread.T has made
    torch.testing.assert_close(e.abs(), torch.full_like(e, RATE), rtol=0.02, atol=0)
    step, compared = 4e-3, 0
    for index in range(3):
        objective = restated(generator, mixes.ws[index], columns[index], mask[0, 0].numpy(), critics, refiner.apart)
        for layer in range(LAYERS):
            for place in range(WIDTH):
                change = torch.zeros(LAYERS, WIDTH)
                change[layer, place] = step
                up, down = (
                    objective(columns[index] + sign * change @ refiner.spread.T, sign * change.double().numpy()) for sign in (1, -1)
                )
                slope = (up - down) / (2 * step)
                if abs(slope) > 0.02:  # else rounding of the images decides
                    compared += 1
                    assert e[index, layer, place] * slope < 0, (index, layer, place, slope)
    assert compared > 60


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
        tones.append((skin(images, mask) - skin(faces, mask)).abs().sum(1))
        changes.append(outside(images, faces, mask))
    assert (tones[1] < 0.7 * tones[0]).all() and (changes[1] < 1.1 * changes[0]).all()


def test_each_mix_is_refined_for_itself(generator: Generator) -> None:
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE), 4)
    together, alone = (Refiner(Renderer(generator, batch=batch), Colours(0), STEPS)(mixes, columns).others for batch in (4, 1))
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3)


def test_what_neither_face_shows_is_not_asked_for(generator: Generator) -> None:
    """A critic that sees nothing in either has no part; one that sees its attribute in the column's face raises it in the mix."""
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    draw = Renderer(generator, batch=3)
    blind, none, seeing = Colours(0, offset=-9), Colours(0, offset=9), Colours(0, offset=0.6)
    without, content, with_one = (Refiner(draw, critics, STEPS)(mixes, columns).others for critics in (blind, none, seeing))
    torch.testing.assert_close(without, content, rtol=0, atol=0)  # one that has seen enough has none either
    shown = torch.maximum(*(seeing.scores(generator.synthesis(ws, "const")) for ws in (mixes.ws, columns)))[0] > 0.5
    assert shown.any()
    gain = [seeing.scores(drawn(generator, Mixture(mixes.ws, others, mixes.mask)))[0] for others in (without, with_one)]
    assert (gain[1][shown] > gain[0][shown]).all()


def test_what_the_mix_shows_of_itself_is_kept_too(generator: Generator) -> None:
    """A column whose beard its critic overlooks may still bring one."""
    mixes, columns = mixes_of(generator, find_mask("lower", [], 0.05).at(SIDE))
    before = drawn(generator, mixes)

    class InMixes:
        def scores(self, images: torch.Tensor) -> torch.Tensor:
            near = (images - before).abs().mean((1, 2, 3)) < 0.02
            return (torch.where(near, 0.75, 0.0) + 0.1 * images[:, 1].mean((1, 2)))[None]

    found, blind = (
        Refiner(Renderer(generator, batch=3), critics, 1)(mixes, columns).others for critics in (InMixes(), Colours(0, offset=-9))
    )
    assert not torch.equal(found, blind)


@pytest.mark.parametrize("value", [1.0, 0.4])
def test_a_mask_may_leave_nothing_outside_or_no_skin(generator: Generator, value: float) -> None:
    mask = torch.full((1, 1, SIDE, SIDE), value)
    mixes, columns = mixes_of(generator, mask)
    found = Refiner(Renderer(generator, batch=3), Colours(0, offset=0.9), 3)(mixes, columns)
    assert found.others.isfinite().all() and not torch.equal(found.others, mixes.others)
    assert (skin(drawn(generator, found), mask) is None) is (value < 0.5)


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
        ({"critics": "somewhere"}, "`critics` are asked where mixes are refined: give `refine` some steps"),
    ],
)
def test_what_cannot_be_refined_is_told(network: Path, flags: dict, words: str) -> None:
    with pytest.raises(FaceganError, match=words.replace("(", r"\(")):
        facegan.StyleGAN.from_pretrained(network).mix(["0"], ["4"], **flags)
