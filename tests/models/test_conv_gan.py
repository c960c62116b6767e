"""The convolutional networks of method A."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.checkpoints.merged import pack_generator, unpack_generator
from facegan.methods.a.discriminators import RegionalDiscriminator, covered_rows
from facegan.models.conv_gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, grow, minibatch_deviation
from facegan.models.merged_generator import MergedGenerator


def generator(seed: int = 0, **config: object) -> Generator:
    torch.manual_seed(seed)
    return Generator(GeneratorConfig(**{"resolution": 32, "z_shape": (6,), "width": 0.25, **config}))


def noise(count: int = 3, shape: tuple[int, ...] = (6,)) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_a_grown_generator_equals_its_origin_bit_by_bit_and_can_leave_it(resolution: int) -> None:
    g1 = generator(resolution=resolution)
    g3, z = grow(g1), noise()
    assert torch.equal(g3(z), g1(z))
    extra = g3.extra_parameters()
    assert len(list(g3.parameters())) == len(list(g1.parameters())) + len(extra)
    blocks = sum(size >= 16 for size in (4, 8, 16, 32, 64) if size <= resolution)
    assert len(extra) == 4 * blocks  # two convolutions with weight and bias each
    g3(z).square().sum().backward()
    last = [g3.blocks[str(resolution)].extra.conv1.weight, g3.blocks["16"].extra.conv1.weight]
    assert all(weight.grad.abs().sum() > 0 for weight in last)


def test_generator_output_shape_and_noise_images() -> None:
    flat, image = generator(), generator(z_shape=(2, 3, 4))
    z = noise(5, (2, 3, 4))
    assert flat(noise()).shape == (3, 3, 32, 32) and image(z).shape == (5, 3, 32, 32)
    # z is normalised: only its direction counts
    torch.testing.assert_close(flat(10 * noise()), flat(noise()))


def test_conditional_networks_listen_to_y_and_ask_for_it() -> None:
    g, z = generator(num_attributes=2), noise(4)
    bald, both = torch.tensor([[1.0, 0.0]] * 4), torch.ones(4, 2)
    assert (g(z, bald) - g(z, both)).abs().max() > 1e-3
    torch.manual_seed(1)
    d, x = Discriminator(DiscriminatorConfig(16, 16, 0.25, num_attributes=2)), torch.randn(4, 3, 16, 16)
    assert (d(x, bald) - d(x, both)).abs().max() > 1e-3
    for network, argument in ((g, z), (d, x)):
        with pytest.raises(ValueError, match="y is missing"):
            network(argument)


def test_z_sets_the_statistics_of_the_maps_of_every_size() -> None:
    """StyleGAN1, eq. (1): scale (x - mu) / sigma + shift, so behind a block its maps have the mean and deviation that z gave."""
    g, seen = generator(), {}
    for size, block in g.blocks.items():
        block.register_forward_hook(lambda _m, inputs, out, size=size: seen.__setitem__(size, (inputs[1], out)))
    g(noise())
    assert list(seen) == ["4", "8", "16", "32"]
    for size, (latent, maps) in seen.items():
        linear = g.blocks[size].modulation
        weight, x = linear.weight.detach().double().numpy(), latent.detach().double().numpy()
        scale, shift = np.split(0.5 * x @ (weight / np.sqrt(weight.shape[1])).T, 2, axis=1)  # bias 0 at the start; equalised rates
        values = maps.detach().double().numpy()
        alive = values.std((2, 3)) > 0.05
        assert alive.mean() > 0.9
        np.testing.assert_allclose(values.mean((2, 3)), shift, atol=1e-5)
        np.testing.assert_allclose(values.std((2, 3))[alive], np.abs(1 + scale)[alive], rtol=1e-2)


@pytest.mark.parametrize(("count", "group"), [(8, 4), (6, 6), (1, 1)])
def test_minibatch_deviation_of_consecutive_groups(count: int, group: int) -> None:
    x = np.random.default_rng(0).standard_normal((count, 5, 2, 3))
    maps = minibatch_deviation(torch.tensor(x)).numpy()
    assert maps.shape == (count, 1, 2, 3)
    for start in range(0, count, group):
        expected = np.sqrt(x[start : start + group].var(0) + 1e-8).mean()
        np.testing.assert_allclose(maps[start : start + group], expected, rtol=1e-5)


# --- the merge


def adain_float64(content: np.ndarray, style: np.ndarray, alpha: float) -> np.ndarray:
    """METHOD: (1 - a) x + a [sigma(h) (x - mu(x)) / sigma(x) + mu(h)], sigma = sqrt(biased variance + 1e-5)."""

    def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x.mean((2, 3), keepdims=True), np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)

    (mu_x, sigma_x), (mu_h, sigma_h) = statistics(content), statistics(style)
    return (1 - alpha) * content + alpha * (sigma_h * (content - mu_x) / sigma_x + mu_h)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_feature_merge_follows_the_equation_behind_the_blocks_at_8_16_and_32(alpha: float) -> None:
    g, h, z = generator(0, resolution=64), generator(1, resolution=64), noise()
    before: dict[str, np.ndarray] = {}
    for size, block in g.blocks.items():
        block.register_forward_hook(lambda _m, _i, out, size=size: before.__setitem__(size, out.detach().double().numpy()))
    style = h.features(z)
    image, merged = g.run(z, style=style, alpha=alpha)
    assert [x.shape[2] for x in merged] == [8, 16, 32]
    for ours, theirs in zip(merged, style, strict=True):
        expected = adain_float64(before[str(ours.shape[2])], theirs.detach().double().numpy(), alpha)
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
        if alpha == 1:  # the style's statistics, wherever a channel is alive
            std = theirs.detach().double().numpy().std((2, 3))
            alive = (before[str(ours.shape[2])].std((2, 3)) > 0.05) & (std > 0.05)
            assert alive.mean() > 0.5
            np.testing.assert_allclose(ours.detach().double().numpy().std((2, 3))[alive], std[alive], rtol=5e-3)
    if alpha == 0:
        torch.testing.assert_close(image, g(z), rtol=0, atol=1e-6)


def merged(mode: str, strength: float, mask: torch.Tensor | None = None) -> MergedGenerator:
    result = MergedGenerator(generator(0), generator(1), mode, mask)
    result.strength = strength
    return result


def test_modes_of_the_merge() -> None:
    z, mask = noise(), torch.zeros(1, 1, 32, 32)
    mask[:, :, 16:] = 1.0
    plain = generator(0)(z)
    for mode in ("image", "feature", "regional"):
        assert torch.equal(merged(mode, 0.0, mask)(z), plain), mode
        assert (merged(mode, 0.5, mask)(z) - plain).abs().max() > 1e-3, mode
    expected = adain_float64(plain.detach().double().numpy(), generator(1)(z).detach().double().numpy(), 0.7)
    np.testing.assert_allclose(merged("image", 0.7)(z).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_regional_merge_leaves_features_outside_of_its_mask_alone() -> None:
    z, mask = noise(), torch.zeros(1, 1, 32, 32)
    mask[:, :, 16:] = 1.0
    g, h = generator(0), generator(1)
    before = {}
    g.blocks["8"].register_forward_hook(lambda _m, _i, out: before.__setitem__("8", out))
    _, features = g.run(z, style=h.features(z), alpha=1.0, mask=mask)
    assert torch.equal(features[0][:, :, :4], before["8"][:, :, :4])
    # inside of it, the statistics are those of the style inside of it
    lower, style = features[0][:, :, 4:], h.features(z)[0][:, :, 4:]
    torch.testing.assert_close(lower.mean((2, 3)), style.mean((2, 3)), rtol=1e-3, atol=1e-4)


def test_the_snapshot_stays_frozen_and_a_packed_merge_comes_back_whole() -> None:
    mask = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    original, z = merged("regional", 0.4, mask), noise()
    original(z).sum().backward()
    assert all(p.grad is None for p in original.snapshot.parameters())
    assert all(p.grad is not None for p in original.generator.parameters())
    again = unpack_generator(*pack_generator(original))
    assert torch.equal(again(z), original(z)) and again.strength == 0.4 and again.mode == "regional"
    assert not any(p.requires_grad for p in again.parameters())


# --- regional discriminators


@pytest.mark.parametrize("conditional", [False, True])
def test_a_regional_discriminator_is_blind_outside_of_its_mask(conditional: bool) -> None:
    random = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 1, 16, 16)
    mask[:, :, 3:11, 2:13] = torch.rand(8, 11, generator=random)
    d = RegionalDiscriminator(mask, 16, 0.25, num_attributes=2 if conditional else 0)
    y = torch.ones(4, 2) if conditional else None
    x = torch.randn(4, 3, 16, 16, generator=random, requires_grad=True)
    (gradient,) = torch.autograd.grad(d(x, y).sum(), x)
    hidden = (mask == 0).expand_as(gradient)
    assert (gradient[hidden] == 0).all() and (gradient[~hidden] != 0).float().mean() > 0.95
    disturbed = torch.where(hidden, torch.randn(x.shape, generator=random), x)
    assert torch.equal(d(disturbed, y), d(x, y))


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_every_height_a_mask_can_ask_for_works(resolution: int) -> None:
    for top in range(0, resolution, resolution // 8):
        for bottom in range(top + 1, resolution + 1, max(1, resolution // 16)):
            mask = torch.zeros(1, 1, resolution, resolution)
            mask[:, :, top:bottom] = 1.0
            first, last = covered_rows(mask)
            assert 0 <= first <= top and bottom <= last <= resolution
    for height in range(resolution // 4, resolution + 1, resolution // 8):
        mask = torch.zeros(1, 1, resolution, resolution)
        mask[:, :, :height] = 1.0
        image = torch.randn(2, 3, resolution, resolution, requires_grad=True)
        scores = RegionalDiscriminator(mask, resolution, 0.25)(image)
        (gradient,) = torch.autograd.grad(scores.sum(), image)
        assert scores.shape == (2,) and (gradient[:, :, :height] != 0).float().mean() > 0.95, height


@pytest.mark.parametrize("height", [4, 6, 10, 12])
@pytest.mark.parametrize("top", [0, 4])
def test_a_regional_discriminator_inherits_the_part_that_it_sees(height: int, top: int) -> None:
    """Where the full one's last map is scored by weights on that part alone, both score alike but for the missing border."""
    torch.manual_seed(0)
    full, mask = Discriminator(DiscriminatorConfig(16, 16, 0.25)), torch.zeros(1, 1, 16, 16)
    mask[:, :, top : top + height] = 1.0
    member = RegionalDiscriminator(mask, 16, 0.25)
    member.inherit(full.state_dict())
    x = torch.randn(3, 32, height // 4, 4)
    padded = torch.zeros(3, 32, 4, 4)
    padded[:, :, top // 4 : top // 4 + height // 4] = x
    torch.testing.assert_close(member.network.hidden(x.flatten(1)), full.hidden(padded.flatten(1)))
    for name in ("from_rgb", "detail", "final"):
        assert torch.equal(getattr(member.network, name).weight, getattr(full, name).weight)
