"""Augmentations: differentiable, per image, and what their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.training import augment

RANDOM = torch.Generator().manual_seed(3)


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=RANDOM).requires_grad_(True)


def numbers(count: int, width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(count, width, dtype=dtype, generator=RANDOM)


@pytest.mark.parametrize(("function", "width"), [(augment.diffaugment, augment.DIFFAUGMENT_NUMBERS), (augment.view, augment.VIEW_NUMBERS)])
def test_gradients_of_first_and_second_order(function: object, width: int) -> None:
    x, u = double(3, 3, 6, 5), numbers(3, width)
    assert torch.autograd.gradcheck(lambda x: function(x, u), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, u), x)


@pytest.mark.parametrize(("function", "width"), [(augment.diffaugment, augment.DIFFAUGMENT_NUMBERS), (augment.view, augment.VIEW_NUMBERS)])
def test_an_image_is_changed_by_its_own_numbers_alone(function: object, width: int) -> None:
    x, u = torch.randn(4, 3, 16, 16, generator=RANDOM), numbers(4, width, torch.float32)
    together = function(x, u)
    alone = torch.cat([function(x[i : i + 1], u[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert (together - x).flatten(1).abs().amax(1).min() > 0.01


def test_colour_moves_mean_contrast_and_saturation_as_asked() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=RANDOM)
    one = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(augment.colour(x, 0.25 * one, one, one), x + 0.25)
    torch.testing.assert_close(augment.colour(x, 0 * one, 0 * one, one), x.mean(1, keepdim=True).expand_as(x))
    contrast = augment.colour(x, 0 * one, one, 1.5 * one)
    torch.testing.assert_close(contrast.mean((1, 2, 3)), x.mean((1, 2, 3)))
    torch.testing.assert_close(contrast.std((1, 2, 3)), 1.5 * x.std((1, 2, 3)))


def test_translation_by_whole_pixels_with_the_border_repeated() -> None:
    x = torch.randn(3, 2, 5, 6, generator=RANDOM)
    rows, columns = torch.tensor([0, 2, -1]), torch.tensor([0, -3, 1])
    shifted = augment.translate(x, rows, columns).numpy()
    for image, moved, down, right in zip(x.numpy(), shifted, rows.tolist(), columns.tolist(), strict=True):
        padded = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode="edge")
        assert np.array_equal(moved, padded[:, 9 - down : 14 - down, 9 - right : 15 - right])
    steps = augment.whole_pixels(torch.linspace(0, 0.9999, 5001), 2)
    assert torch.bincount(steps + 2).tolist() == pytest.approx([1000] * 5, abs=2)


def test_blur_keeps_flat_images_and_sums_and_noise_is_sharp() -> None:
    flat = torch.full((2, 3, 16, 16), 0.3)
    torch.testing.assert_close(augment.gaussian_blur(flat, 2.0), flat)
    impulse = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    impulse[..., 16, 16] = 1
    blurred = augment.gaussian_blur(impulse, 2.0)[0, 0].numpy()
    place = np.arange(33) - 16
    assert blurred.sum() == pytest.approx(1) and (blurred.sum(0) * place**2).sum() == pytest.approx(4.0, rel=0.05)
    noise = torch.randn(2, 3, 16, 16, generator=RANDOM)
    assert (augment.sharpness(augment.gaussian_blur(noise, 1.5)) < 0.05 * augment.sharpness(noise)).all()


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    x = torch.randn(3, 3, 6, 7, dtype=torch.float64, generator=RANDOM)
    luma = np.einsum("nchw,c->nhw", x.numpy(), [0.299, 0.587, 0.114])
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * luma[:, 1:-1, 1:-1]
    np.testing.assert_allclose(augment.sharpness(x).numpy(), laplacian.reshape(3, -1).var(1), rtol=1e-12)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_degrading_a_batch_is_degrading_image_by_image(size: int) -> None:
    """The batch's one computation by matrices against the functions that do it to one image."""
    x, u = torch.randn(40, 3, size, size, generator=RANDOM), numbers(40, 2, torch.float32)
    grain = torch.randn(40, 3, size, size, generator=RANDOM)
    expected = []
    for image, (kind, strength), noise in zip(x.split(1), u.tolist(), grain.split(1), strict=True):
        if kind < 0.4:
            image = augment.gaussian_blur(image, size / 64 * (1 + 4 * strength))
        elif kind < 0.7:
            small = torch.nn.functional.interpolate(image, size=max(2, round(size / (2 + 6 * strength))), mode="area")
            image = torch.nn.functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
        else:
            image = image + (0.15 + 0.6 * strength) * noise
        expected.append(image.clamp(-1, 1))
    torch.testing.assert_close(augment.degrade(x, u, grain), torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert min(np.histogram(u[:, 0], [0, 0.4, 0.7, 1])[0]) > 4  # each kind was there


def test_degraded_images_lose_or_gain_sharpness_by_kind() -> None:
    x = torch.randn(6, 3, 16, 16, generator=RANDOM).clamp(-1, 1)
    u = torch.tensor([[0.0, 0.5], [0.39, 0.9], [0.4, 0.5], [0.69, 0.9], [0.71, 0.0], [0.99, 0.9]])
    grain = torch.randn(6, 3, 16, 16, generator=RANDOM)
    smooth = augment.gaussian_blur(x, 1.0)
    degraded = augment.degrade(x, u, grain)
    assert (augment.sharpness(degraded[:4]) < 0.7 * augment.sharpness(x[:4])).all()
    assert (augment.sharpness(augment.degrade(smooth, u, grain)[4:]) > augment.sharpness(smooth[4:])).all()
    assert degraded.abs().max() <= 1 and degraded.shape == x.shape
