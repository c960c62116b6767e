"""ADA: every transformation against the paper's formulas in numpy, and a controller that keeps time and state."""

from __future__ import annotations

import itertools
import json
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.training import ada
from facegan.training.ada import NUMBERS, Strength, augment

pytestmark = pytest.mark.usefixtures("one_thread")

# Where the decisions and, after them, their parameters are among the numbers of an image; the order is the paper's.
DECISIONS = dict(
    flip=0, quarters=2, whole=4, zoom=7, before=9, stretch=11, after=13, part=15,
    brightness=18, contrast=20, luma=22, hue=24, saturation=26,
)  # fmt: skip
COLOURS = ("brightness", "contrast", "luma", "hue", "saturation")


def uniform(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(seed))


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def only(u: torch.Tensor, *names: str) -> torch.Tensor:
    """The numbers u with every other decision against."""
    u = u.clone()
    u[:, [place for name, place in DECISIONS.items() if name not in names]] = 0.999
    return u


def decided(u: torch.Tensor, *names: str) -> torch.Tensor:
    """The numbers u with these decisions for their transformation, whatever p, and all others against."""
    u = only(u, *names)
    u[:, [DECISIONS[name] for name in names]] = 0.0
    return u


# --- the paper's appendix B, one image at a time in float64


def parameters(u: np.ndarray, p: float) -> dict[str, tuple[float, ...]]:
    """By name, the numbers behind each decision that was taken."""
    ends = [*list(DECISIONS.values())[1:], NUMBERS]
    limits = {name: 1 - math.sqrt(1 - p) if name in ("before", "after") else p for name in DECISIONS}
    places = zip(DECISIONS.items(), ends, strict=True)
    return {name: tuple(u[start + 1 : end]) for (name, start), end in places if u[start] < limits[name]}


def normal(u: float, deviation: float) -> float:
    return NormalDist(0, deviation).inv_cdf(u)


def moves(u: np.ndarray, p: float, side: int) -> np.ndarray:
    """3x3, from places in the image to places in the result, in pixels from the centre, x right and y down; paper's G."""
    taken, matrix = parameters(u, p), np.eye(3)

    def then(step: list[list[float]]) -> None:
        nonlocal matrix
        whole = np.eye(3)
        whole[: len(step), : len(step[0])] = step
        matrix = whole @ matrix

    def turn(angle: float) -> list[list[float]]:
        return [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]

    if "flip" in taken:
        then([[1 - 2 * int(2 * taken["flip"][0]), 0], [0, 1]])
    if "quarters" in taken:
        then(turn(-math.pi / 2 * int(4 * taken["quarters"][0])))
    if "whole" in taken:
        x, y = (np.round((v - 0.5) * 0.25 * side) for v in taken["whole"])
        then([[1, 0, x], [0, 1, y]])
    if "zoom" in taken:
        scale = 2 ** normal(taken["zoom"][0], 0.2)
        then([[scale, 0], [0, scale]])
    if "before" in taken:
        then(turn((2 * taken["before"][0] - 1) * math.pi))
    if "stretch" in taken:
        scale = 2 ** normal(taken["stretch"][0], 0.2)
        then([[scale, 0], [0, 1 / scale]])
    if "after" in taken:
        then(turn((2 * taken["after"][0] - 1) * math.pi))
    if "part" in taken:
        x, y = (normal(v, 0.125) * side for v in taken["part"])
        then([[1, 0, x], [0, 1, y]])
    return matrix


def colours(u: np.ndarray, p: float) -> np.ndarray:
    """4x4 in homogeneous RGB; paper's C."""
    taken, matrix, luma = parameters(u, p), np.eye(4), np.array([1, 1, 1, 0]) / math.sqrt(3)
    if "brightness" in taken:
        step = np.eye(4)
        step[:3, 3] = normal(taken["brightness"][0], 0.2)
        matrix = step @ matrix
    if "contrast" in taken:
        matrix = np.diag([2 ** normal(taken["contrast"][0], 0.5)] * 3 + [1]) @ matrix
    if "luma" in taken:
        matrix = (np.eye(4) - 2 * int(2 * taken["luma"][0]) * np.outer(luma, luma)) @ matrix
    if "hue" in taken:
        matrix = about(luma[:3], (2 * taken["hue"][0] - 1) * math.pi) @ matrix
    if "saturation" in taken:
        keep = np.outer(luma, luma)
        matrix = (keep + (np.eye(4) - keep) * 2 ** normal(taken["saturation"][0], 1.0)) @ matrix
        matrix[3] = 0, 0, 0, 1
    return matrix


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation about an axis by the quaternion (cos, sin * axis) of half the angle, as 4x4."""
    w, (x, y, z) = math.cos(angle / 2), math.sin(angle / 2) * axis
    turned = np.eye(4)
    turned[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return turned


def sources(matrix: np.ndarray, side: int) -> np.ndarray:
    """[2, side, side]: the place (x, y) in the image, in pixels from the first, of each pixel of the result."""
    half = (side - 1) / 2
    rows, columns = np.mgrid[:side, :side] - half
    places = np.linalg.inv(matrix) @ np.stack([columns.ravel(), rows.ravel(), np.ones(side * side)])
    return places[:2].reshape(2, side, side) + half


# --- images


def test_the_filter_is_the_least_asymmetric_of_daubechies_with_six_vanishing_moments() -> None:
    moments = 6
    halves = []  # of (2 - z - 1/z) / 4 = y at the roots y of Daubechies' polynomial; one root of each pair z, 1/z is to be chosen
    for y in np.roots([math.comb(moments - 1 + k, k) for k in range(moments)][::-1]):
        if y.imag >= 0:
            z = np.roots([1, 4 * y - 2, 1])[0]
            halves.append([np.array([z, z.conj()][: 1 + (y.imag > 0)]) ** sign for sign in (1, -1)])
    filters = []
    for choice in itertools.product(*halves):
        taps = np.poly([*np.concatenate(choice), *[-1] * moments]).real
        filters.append(taps * math.sqrt(2) / taps.sum())
    frequencies = np.linspace(0.01, 3, 300)

    def asymmetry(taps: np.ndarray) -> float:
        response = np.exp(-1j * np.outer(frequencies, np.arange(12))) @ taps
        weight, phase = np.abs(response) ** 2, np.unwrap(np.angle(response))
        delay = (weight * frequencies * phase).sum() / (weight * frequencies**2).sum()
        return (weight * (phase - delay * frequencies) ** 2).sum()

    # the best one and its mirror image are equally good
    best = sorted(filters, key=asymmetry)[:2]
    assert min(np.abs(np.array(ada.SYM6) - taps).max() for taps in best) < 1e-11
    overlaps = [np.dot(ada.SYM6[shift:], ada.SYM6[: 12 - shift]) for shift in range(0, 12, 2)]
    np.testing.assert_allclose(overlaps, [1, 0, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize(("count", "side"), [(1, 4), (3, 5), (7, 16), (2, 33), (3, 64), (0, 8)])
def test_nothing_changes_when_nothing_is_decided(count: int, side: int) -> None:
    x, u = noise(count, 3, side, side), uniform(count)
    assert augment(x, 0, u) is x and augment(x, 0.0, u) is x and augment(x, torch.tensor(0.0), u) is x
    torch.testing.assert_close(augment(x, 0.5, only(u)), x, rtol=0, atol=2e-6)


@pytest.mark.parametrize("side", [4, 5, 16, 64])
def test_flips_and_quarter_turns_copy_pixels(side: int) -> None:
    x = noise(8, 3, side, side)
    u = decided(uniform(8), "flip", "quarters")
    u[:, 1] = torch.tensor([0.0, 0.49, 0.5, 0.99] * 2)
    u[:, 3] = torch.tensor([0.2, 0.2, 0.3, 0.3, 0.6, 0.6, 0.8, 0.8])
    turned = augment(x, 0.5, u).numpy()
    for image, result, flip, quarters in zip(x.numpy(), turned, [0, 0, 1, 1] * 2, [0, 0, 1, 1, 2, 2, 3, 3], strict=True):
        expected = np.rot90(image[:, :, ::-1] if flip else image, quarters, (1, 2))
        np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("side", [16, 40])
def test_whole_translations_are_exact_and_reflect(side: int) -> None:
    most = round(side / 8)
    x, u = noise(5, 3, side, side), decided(uniform(5), "whole")
    u[:, 5], u[:, 6] = torch.tensor([0, 0.5, 0.5, 0.9999, 0.3]), torch.tensor([0.5, 0.0, 0.5, 0.9999, 0.8])
    shifts = [(round((v - 0.5) * side / 4), round((w - 0.5) * side / 4)) for v, w in u[:, 5:7].tolist()]
    assert shifts[:4] == [(-most, 0), (0, -most), (0, 0), (most, most)]
    rows, columns = np.mgrid[:side, :side]
    wave = torch.from_numpy(np.sin(columns / 4 + 1) * np.cos(rows / 5 + 2)).float().expand(5, 3, side, side)
    for images, within in ((x, math.inf), (wave, 0.1 / 4 + 0.1 / 5)):  # in the mirror: 0.1 pixels, times the steepest slopes
        for image, result, (right, down) in zip(images.numpy(), augment(images, 0.5, u).numpy(), shifts, strict=True):
            padded = np.pad(image, ((0, 0), (most, most), (most, most)), mode="reflect")
            expected = padded[:, most - down : most - down + side, most - right : most - right + side]
            inside = slice(most + 3, side - most - 3)  # all that is 3 pixels off the seam, whichever the shift
            np.testing.assert_allclose(result[:, inside, inside], expected[:, inside, inside], atol=1e-4)
            assert np.abs(result - expected).max() < within


@pytest.mark.parametrize("side", [20, 31, 64])
def test_a_ramp_goes_where_the_matrices_say(side: int) -> None:
    """Sixth-order filters and bilinear lookup leave first-order polynomials alone: all pixels off the seams are exact."""
    count, p = 48, 0.7
    u, slopes = uniform(count, seed=side), noise(3, 3, seed=5, dtype=torch.float64).numpy()
    rows, columns = np.mgrid[:side, :side] / side
    ramp = np.tensordot(slopes, np.stack([columns, rows, np.ones_like(rows)]), 1)
    x = torch.from_numpy(ramp).float().expand(count, 3, side, side)
    compared = mirrored = 0
    for result, numbers in zip(augment(x, p, u).numpy(), u.double().numpy(), strict=True):
        matrix, colour = moves(numbers, p, side), colours(numbers, p)
        places = sources(matrix, side)
        # a pixel is made of 3 pixels to each side, these by the lookup of 1/2 more, and these of 3 more; none may meet a seam
        reach = 3 * np.abs(np.linalg.inv(matrix)[:2, :2]).sum(1)[:, None, None] + 3.5
        cells = [np.floor((places + sign * reach) / (side - 1)) for sign in (-1, 1)]
        whole = (cells[0] == cells[1]).all(0)
        inside = whole & (cells[0] == 0).all(0)
        period = 2 * (side - 1)
        column, row = (side - 1) - np.abs(places % period - (side - 1))
        expected = np.tensordot(slopes, np.stack([column / side, row / side, np.ones_like(row)]), 1)
        expected = np.tensordot(colour[:3, :3], expected, 1) + colour[:3, 3, None, None]
        scale = np.abs(colour[:3, :3]).sum()
        assert np.abs(result - expected)[:, inside].max(initial=0) < 2e-5 * scale
        # seen in the mirror: 0.1 pixels off along either axis
        assert np.abs(result - expected)[:, whole].max(initial=0) < 0.1 * 2 * np.abs(slopes).max() / side * scale
        compared, mirrored = compared + inside.sum(), mirrored + (whole & ~inside).sum()
    assert compared > 0.02 * count * side**2 and (side < 64 or mirrored > 0.02 * count * side**2)


@pytest.mark.parametrize("name", ["zoom", "before", "stretch", "after", "part"])
def test_a_blob_is_moved_and_not_blurred(name: str) -> None:
    side, count = 48, 12
    u = decided(uniform(count, seed=9), name)
    rows, columns = np.mgrid[:side, :side]

    def blob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-((x - 20) ** 2 / 18 + (y - 26) ** 2 / 8))  # radii of 3 and 2 pixels

    x = torch.from_numpy(blob(columns, rows)).float().expand(count, 3, side, side)
    moved = augment(x, 0.5, u)
    assert (moved - x).abs().max() > 0.1
    for result, numbers in zip(moved.numpy(), u.double().numpy(), strict=True):
        places = sources(moves(numbers, 0.5, side), side)
        expected, inside = blob(*places), (places > 0).all(0) & (places < side - 1).all(0)
        assert np.abs(result - expected)[:, inside].max() < 0.02


def test_colours_are_the_products_of_the_paper_s_matrices() -> None:
    count, p = 64, 0.6
    x, u = noise(count, 3, 4, 4), uniform(count, seed=2)
    for names in ((name,) for name in COLOURS):
        chosen = decided(u, *names)
        for image, result, numbers in zip(x.double().numpy(), augment(x, p, chosen).numpy(), chosen.double().numpy(), strict=True):
            matrix = colours(numbers, p)
            np.testing.assert_allclose(result, np.einsum("ij,jhw->ihw", matrix[:3, :3], image) + matrix[:3, 3, None, None], atol=1e-4)
    chosen = only(u, *COLOURS)
    for image, result, numbers in zip(x.double().numpy(), augment(x, p, chosen).numpy(), chosen.double().numpy(), strict=True):
        matrix = colours(numbers, p)
        expected = np.einsum("ij,jhw->ihw", matrix[:3, :3], image) + matrix[:3, 3, None, None]
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


# What share of the images that a transformation is decided for it changes: coins, one quarter turn in four is none, and round(8 t)
# of t in [-0.125, 0.125) is 0 in half of the cases, for x and y at once in a quarter.
SHARES = {"flip": 1 / 2, "quarters": 3 / 4, "whole": 3 / 4, "luma": 1 / 2}


@pytest.mark.parametrize("p", [0.5, torch.tensor(0.3)])
def test_each_transformation_is_decided_for_as_often_as_asked(p: float | torch.Tensor) -> None:
    count, chance = 1500, float(p)
    x = noise(1, 3, 8, 8).expand(count, 3, 8, 8)
    for seed, name in enumerate(DECISIONS):
        changed = (augment(x, p, only(uniform(count, seed), name)) - x).flatten(1).abs().amax(1) > 1e-4
        share = chance * SHARES.get(name, 1.0)
        if name in ("before", "after"):
            share = 1 - math.sqrt(1 - chance)
        assert changed.float().mean().item() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count)), name
    both = (augment(x, p, only(uniform(count, 99), "before", "after")) - x).flatten(1).abs().amax(1) > 1e-4
    assert both.float().mean().item() == pytest.approx(chance, abs=0.05)  # p_rot is such that p of the images are turned


def test_an_image_is_changed_by_its_own_numbers_alone() -> None:
    x, u = noise(7, 3, 16, 16), uniform(7)
    together = augment(x, 0.8, u)
    apart = torch.cat([augment(x[:3], 0.8, u[:3]), augment(x[3:4], 0.8, u[3:4]), augment(x[4:], 0.8, u[4:])])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(augment(x, torch.tensor(0.8, dtype=torch.float64), u), together)
    other = augment(x, 0.8, torch.cat([u[:6], uniform(1, seed=7)]))
    torch.testing.assert_close(other[:6], together[:6])
    assert (other[6] - together[6]).abs().max() > 0.1


def test_gradients_agree_with_finite_differences() -> None:
    x = noise(4, 3, 5, 5, dtype=torch.float64).requires_grad_()
    u = uniform(4, seed=3).double()
    u[0] = only(u, "flip", "hue")[0]  # one image that stays where it is
    assert torch.autograd.gradcheck(lambda x: augment(x, 0.9, u), x)


def test_the_ends_of_the_numbers_are_finite() -> None:
    x = noise(4, 3, 16, 16)
    ends = torch.tensor([0.0, 1 - 2**-24, 1 - 1e-12, 0.5], dtype=torch.float64)
    u = ends[:, None].repeat(1, NUMBERS)
    u[:, list(DECISIONS.values())] = 0
    for numbers in (u, u.float().clamp(max=1 - 2**-24)):
        assert augment(x, 1.0, numbers).isfinite().all()


def test_formats_and_precisions() -> None:
    x, u = noise(3, 3, 16, 16), uniform(3)
    expected = augment(x, 0.8, u)
    torch.testing.assert_close(augment(x.contiguous(memory_format=torch.channels_last), 0.8, u), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(augment(x, 0.8, u), expected)
    half = augment(x.bfloat16(), 0.8, u)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), augment(x.bfloat16().float(), 0.8, u), rtol=1e-2, atol=1e-2)


def test_trains_after_a_first_call_in_inference_mode() -> None:
    ada._sym6.cache_clear()
    with torch.inference_mode():
        augment(noise(1, 3, 8, 8), 0.9, uniform(1))
    x = noise(1, 3, 8, 8).requires_grad_()
    augment(x, 0.9, uniform(1)).sum().backward()
    assert x.grad is not None


def test_nothing_reads_a_value_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without memory have no values to read: whoever asks for one raises."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # refuses to answer for this device
    u, strength = torch.empty(5, NUMBERS, device="meta"), Strength("meta")
    x = torch.empty(5, 3, 16, 16, device="meta", requires_grad=True)
    for _ in range(Strength.EVERY):
        augment(x, strength.p, u).sum().backward()
        strength.update(x.detach().mean((1, 2, 3)).sign().sum(), 5)
        strength.adjust()
    assert x.grad is not None and x.grad.shape == x.shape
    with pytest.raises(RuntimeError, match="meta"):
        strength.state()


@pytest.mark.parametrize(
    ("shape", "numbers", "words"),
    [
        ((2, 1, 8, 8), (2, NUMBERS), r"images are torch.float32 \[2, 1, 8, 8\]"),
        ((2, 3, 8, 9), (2, NUMBERS), r"\[2, 3, 8, 9\]"),
        ((2, 3, 3, 3), (2, NUMBERS), "R >= 4"),
        ((2, 3, 8, 8), (3, NUMBERS), r"u has shape \[3, 28\]; expected \[2, 28\]"),
        ((2, 3, 8, 8), (2, NUMBERS - 1), r"u has shape \[2, 27\]"),
    ],
)
def test_refuses_other_shapes(shape: tuple[int, ...], numbers: tuple[int, ...], words: str) -> None:
    with pytest.raises(FaceganError, match=words):
        augment(torch.zeros(shape), 0.5, torch.zeros(numbers))


# --- strength


def go(strength: Strength, batches: int, signs: float, count: int = 64) -> Strength:
    for _ in range(batches):
        strength.update(torch.tensor(signs), count)
        strength.adjust()
    return strength


def test_strength_rises_in_500_kimg_to_its_limit_and_falls_back() -> None:
    strength = go(Strength("cpu"), 3, 64.0)
    assert strength.p == 0  # until the fourth batch
    assert go(strength, 1, 64.0).p.item() == pytest.approx(256 / 500_000) and strength.r == 1
    assert go(strength, 3903 - 4, 64.0).p.item() == pytest.approx(3900 * 64 / 500_000)  # half of the way
    assert go(strength, 3000, 64.0).p == 0.8
    assert go(strength, 400 + 1, 0.0).p.item() == pytest.approx(0.8 - 400 * 64 / 500_000) and strength.r == 0
    assert go(strength, 6000, -64.0).p == 0 and strength.r == -1


def test_strength_turns_at_its_target() -> None:
    for signs, step in ((39.0, 1), (38.0, -1)):  # of 64: r = 0.609 and 0.594
        strength = go(Strength("cpu"), 400, 64.0)
        before = strength.p.item()
        assert go(strength, 4, signs).p.item() - before == pytest.approx(step * 256 / 500_000)
        assert strength.r.item() == signs / 64
    assert go(Strength("cpu", target=0.0, kimg=1.0), 4, 1.0).p.item() == pytest.approx(0.256)


def test_a_fixed_strength_stays_and_is_measured() -> None:
    for fixed in (0.0, 0.25, 1.0):
        strength = go(Strength("cpu", fixed=fixed), 8, 64.0)
        assert strength.p == fixed and strength.r == 1
    with pytest.raises(FaceganError, match="`augment_p` is 1.3: expected a probability"):
        Strength("cpu", fixed=1.3)


def test_strength_goes_on_from_its_saved_state_bit_by_bit() -> None:
    draws = np.random.default_rng(0).integers(-20, 21, (60, 2)).astype(float)

    def run(strength: Strength, rows: np.ndarray) -> Strength:
        for row in rows:
            for signs in row:  # accumulated gradients: several updates a batch
                strength.update(torch.tensor(signs), 20)
            strength.adjust()
        return strength

    for cut in (0, 1, 6, 8, 35):
        whole = run(run(Strength("cpu", target=0.0, kimg=0.3), draws[:cut]), draws[cut:])
        metadata = json.loads(json.dumps(run(Strength("cpu", target=0.0, kimg=0.3), draws[:cut]).state()))
        resumed = Strength("cpu", target=0.0, kimg=0.3)
        resumed.load_state(metadata)
        assert run(resumed, draws[cut:]).state() == whole.state()
        assert 0 < whole.p < 0.8 and whole.batches == 0
        assert whole.r == draws[56:].sum() / 160  # of the last 4 batches


def test_two_processes_agree_with_one_at_every_batch() -> None:
    signs = np.random.default_rng(1).integers(-4, 9, (11, 2)).astype(float)
    one, pair = Strength("cpu", target=0.0, kimg=0.5), [Strength("cpu", target=0.0, kimg=0.5) for _ in range(2)]
    for row in signs:
        one.update(torch.tensor(row.sum()), 16)
        one.adjust()
        for strength, own in zip(pair, row, strict=True):
            strength.update(torch.tensor(own), 8)
        total = sum(strength.batch for strength in pair)
        for strength in pair:
            strength.adjust(lambda sums, total=total: total.clone())
        assert pair[0].state() == pair[1].state() == one.state()
    assert one.p > 0
