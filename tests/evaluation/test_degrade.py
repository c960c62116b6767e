from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.evaluation.judge import degradation as d


def faces(num=6, height=24, width=24, seed=0):
    return torch.rand(num, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_labels_under_strong_degradation_keep_zeros_and_lose_ones():
    nan = float("nan")
    labels = torch.tensor([[1.0, 0.0], [0.0, nan], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    strength = torch.tensor([d.STRONG, d.STRONG, d.MILD, d.STRONG, d.CLEAN])
    expected = [[nan, 0.0], [0.0, nan], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    np.testing.assert_array_equal(d.keep_labels(labels, strength).numpy(), np.array(expected, np.float32))


def test_a_hidden_signal_tells_that_pictures_and_labels_stay_together():
    """Each picture's mean colour hides its row; after the degradation the labels must still be that row's."""
    num = 64
    level = torch.linspace(-0.6, 0.6, num)
    images = level.reshape(-1, 1, 1, 1).expand(num, 3, 16, 16).clone()
    labels = torch.stack([(level > 0).float(), (level > 0.3).float()], 1)
    strength = torch.arange(num) % 3
    still = d.degrade(images, d.stream(3), torch.zeros(num, dtype=torch.long))
    torch.testing.assert_close(still, images)  # clean rows are untouched
    spoiled = d.degrade(images, d.stream(3), strength)
    correlation = np.corrcoef(spoiled.mean((1, 2, 3)).numpy(), level.numpy())[0, 1]
    assert correlation > 0.95  # rows were not exchanged
    kept = d.keep_labels(labels, strength)
    known = ~kept.isnan()
    assert torch.equal(kept[known], labels[known])
    assert torch.equal(~known, (strength == d.STRONG)[:, None] & (labels == 1))


def test_blend_keeps_labels_on_which_both_agree():
    nan = float("nan")
    images = faces(4)
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, nan], [0.0, 0.0]])
    partner, weight = torch.tensor([1, 2, 3, 0]), torch.tensor([0.25, 0.5, 0.3, 0.0])
    mixed, after = d.blend(images, labels, partner, weight)
    np.testing.assert_array_equal(after.numpy(), np.array([[1, nan], [nan, nan], [0, nan], [0, 0]], np.float32))
    torch.testing.assert_close(mixed[0], 0.75 * images[0] + 0.25 * images[1])
    torch.testing.assert_close(mixed[3], images[3])


def test_everything_is_keyed_by_the_stream_and_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    images, strength = faces(9), torch.arange(9) % 3
    first = d.degrade(d.augment(images, d.stream(1, 0, 5), strength), d.stream(1, 0, 6), strength)
    again = d.degrade(d.augment(images, d.stream(1, 0, 5), strength), d.stream(1, 0, 6), strength)
    other = d.degrade(d.augment(images, d.stream(1, 1, 5), strength), d.stream(1, 1, 6), strength)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.shape == images.shape and first.abs().max() <= 1


def test_stream_keys_are_independent():
    draws = [torch.rand(4, generator=d.stream(*key)).tolist() for key in ((1, 2), (2, 1), (1, 2, 0), (12,), (1, 3))]
    assert len({tuple(draw) for draw in draws}) == len(draws)


@pytest.mark.parametrize(("height", "width"), [(17, 23), (8, 8)])
def test_gaussian_blur_of_a_spike_is_the_outer_product_of_two_gaussians(height, width):
    spike = torch.zeros(2, 3, height, width, dtype=torch.float64)
    row, column = height // 2, width // 2
    spike[..., row, column] = 1
    out = d.gaussian_blur(spike, torch.tensor([0.0, 1.3], dtype=torch.float64))
    torch.testing.assert_close(out[0], spike[0])

    def line(size, centre):  # each output place normalises its own window
        place = np.arange(size)
        weight = np.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * 1.3**2))
        return (weight / weight.sum(1, keepdims=True))[:, centre]

    np.testing.assert_allclose(out[1, 0].numpy(), np.outer(line(height, row), line(width, column)), atol=1e-12)
    flat = torch.full((1, 3, height, width), 0.37)
    torch.testing.assert_close(d.gaussian_blur(flat, torch.tensor([2.0])), flat)


def test_jpeg_agrees_with_a_real_encoder_on_grey_pictures():
    """libjpeg on greyscale uses the same table and rounding; they differ by its integer arithmetic only."""
    smooth = d.smooth_field(d.stream(4), 1, 1, 6, (20, 27)).clamp(-2, 2) * 50 + 128
    grey = smooth.round().clamp(0, 255)
    for quality in (20, 75):
        buffer = io.BytesIO()
        Image.fromarray(grey[0, 0].byte().numpy()).save(buffer, "JPEG", quality=quality)
        real = np.asarray(Image.open(buffer), dtype=np.float32)
        ours = d.jpeg((grey / 127.5 - 128 / 127.5).expand(1, 3, 20, 27), torch.tensor([quality]))[0, 0] * 127.5 + 128
        whole = (slice(0, 16), slice(0, 24))  # padding of the border blocks is the encoder's own affair
        error = np.abs(ours.clamp(0, 255).numpy()[whole] - real[whole])
        assert error.mean() < 0.6 and error.max() <= 3, (quality, error.mean(), error.max())


def test_clean_faces_move_by_whole_pixels():
    """A clean picture's pixels are a flip and a shift of the original's: no interpolation, so no blur."""
    images = faces(8, 20, 20)
    out = d.warp(images, d.stream(5), torch.zeros(8, dtype=torch.long))
    for before, after in zip(images, out, strict=True):
        inner = after[:, 4:-4, 4:-4]
        found = [
            torch.allclose(inner, side[:, 4 + y : 16 + y, 4 + x : 16 + x], atol=1e-4)
            for side in (before, before.flip(-1))
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        ]
        assert any(found)
