"""Noise that is concatenated as maps beside the features (Yang et al. 2021, fig. 2): where it comes from, and which layers get it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facegan.checkpoints.convert import convert
from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.projection import noise_maps

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12, noise="concat")
SHAPES = [(12, 4, 4), (12, 8, 8), (6, 16, 16)]
NUMBERS = 12 * 4 * 4 + 12 * 8 * 8 + 6 * 16 * 16


def drawn(**options) -> Generator:
    """Every parameter random, so that noise strengths and biases count."""
    torch.manual_seed(0)
    generator = Generator(StyleGAN2Config(**TINY, **options))
    for parameter in generator.parameters():
        nn.init.normal_(parameter)
    return generator.eval().requires_grad_(False)


def maps_for(count: int) -> list[torch.Tensor]:
    return [torch.randn(count, *shape) for shape in SHAPES]


def flat(maps: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in maps], dim=1)


def test_a_size_has_one_map_a_channel_for_its_layers_alike():
    config = StyleGAN2Config(**TINY)
    assert config.noise_shapes == SHAPES and config.num_noise == NUMBERS
    assert [config.features(size) for size in config.sizes] == [24, 24, 12]
    generator, maps, seen = drawn(), maps_for(2), {}
    for name, module in generator.synthesis.named_modules():
        if name.endswith(("conv0", "conv1")):
            module.register_forward_pre_hook(lambda module, inputs, name=name: seen.update({name: inputs[2]}))
    image = generator.synthesis(generator.mapping(torch.randn(2, 6)), noise=maps)
    assert image.shape == (2, 3, 16, 16) and len(seen) == 5
    assert all(torch.equal(noise, maps[["b4", "b8", "b16"].index(name.partition(".")[0])]) for name, noise in seen.items())
    assert "noise_const" not in " ".join(generator.state_dict())


def test_given_noise_is_flat_or_maps_and_none_is_zeros():
    generator, z, maps = drawn(), torch.randn(2, 6), maps_for(2)
    ws = generator.mapping(z)
    assert torch.equal(generator(z, noise=flat(maps)), generator.synthesis(ws, noise=maps))
    assert torch.equal(generator(z, noise_mode="none"), generator(z, noise=torch.zeros(2, NUMBERS)))
    assert not torch.equal(generator(z, noise=flat(maps)), generator(z, noise_mode="none"))
    wanted = flat(maps).requires_grad_()
    (gradient,) = torch.autograd.grad(generator(z, noise=wanted).square().sum(), wanted)
    assert all(bool(part.abs().sum(1).gt(0).all()) for part in gradient.split([12 * 16, 12 * 64, 6 * 256], dim=1))


def test_fixed_noise_is_the_same_at_each_call_and_for_each_face_and_drawn_noise_is_not():
    generator, z = drawn(), torch.randn(1, 6).expand(3, 6)
    fixed = generator(z, noise_mode="const")
    torch.randn(5)  # whatever else is drawn in between
    assert torch.equal(fixed, generator(z, noise_mode="const")) and torch.equal(fixed, drawn()(z, noise_mode="const"))
    torch.testing.assert_close(fixed[1:], fixed[:1].expand(2, -1, -1, -1), rtol=1e-4, atol=1e-4)
    random = generator(z)
    assert not torch.equal(random, generator(z)) and not torch.allclose(random[0], random[1], rtol=1e-2)
    assert not torch.equal(fixed, generator(z, noise_mode="none"))


def test_the_memory_format_is_kept_with_noise_and_without():
    generator, z, found = drawn(), torch.randn(2, 6), []
    for layer in (layer for block in generator.synthesis.blocks for layer in block.layers):
        layer.register_forward_hook(lambda module, inputs, y: found.append(y.is_contiguous(memory_format=torch.channels_last)))
    for mode in ("random", "const", "none"):
        generator(z, noise_mode=mode)
    assert len(found) == 15 and all(found)


def test_drawn_noise_changes_with_the_global_seed_alone():
    generator, z = drawn(), torch.randn(2, 6)
    torch.manual_seed(3)
    first = generator(z)
    torch.manual_seed(3)
    assert torch.equal(first, generator(z))


def test_a_growing_network_takes_the_maps_of_the_sizes_that_it_has_grown_to():
    generator, z, maps = drawn(growing=True), torch.randn(2, 6), maps_for(2)
    small, other = generator(z, noise=flat(maps), level=3), flat([*maps[:2], torch.randn(2, *SHAPES[2])])
    assert small.shape == (2, 3, 8, 8) and torch.equal(small, generator(z, noise=other, level=3))
    ws = generator.mapping(z)
    assert torch.equal(small, generator.synthesis(ws, noise=maps[:2], level=3))
    assert torch.equal(generator.synthesis(ws, noise=maps, level=4), drawn().synthesis(ws, noise=maps))
    for mode in ("const", "random", "none"):
        assert generator(z, noise_mode=mode, level=2.5).shape == (2, 3, 8, 8)
    with pytest.raises(FaceganError, match=r"noise has maps of shapes .*; expected \[\(2, 12, 4, 4\), \(2, 12, 8, 8\)\]"):
        generator.synthesis(ws, noise=maps, level=3)


def test_noise_of_other_shapes_is_refused():
    generator = drawn()
    ws, maps = generator.mapping(torch.randn(2, 6)), maps_for(2)
    with pytest.raises(FaceganError, match=rf"noise has shape \[2, 7\]; expected \[N, num_noise\] = \[2, {NUMBERS}\]"):
        generator.synthesis(ws, noise=torch.zeros(2, 7))
    words = r"noise has maps of shapes .*; expected \[\(2, 12, 4, 4\), \(2, 12, 8, 8\), \(2, 6, 16, 16\)\]"
    for wrong in (maps[:2], maps[::-1], [part[:1] for part in maps], [*maps, maps[2]]):
        with pytest.raises(FaceganError, match=words):
            generator.synthesis(ws, noise=wrong)
    for options in (dict(architecture="resnet"), dict(architecture="stylegan1"), dict(noise="multiply"), dict(noise=None)):
        with pytest.raises(FaceganError, match="noise is .*; expected add"):
            StyleGAN2Config(**{**TINY, **options})


def test_projection_sees_the_maps_that_the_layers_get():
    generator, noise = drawn(), torch.randn(2, NUMBERS)
    maps = noise_maps(noise, generator.config)
    assert [part.shape[1:] for part in maps] == SHAPES and all(part.untyped_storage().data_ptr() == noise.data_ptr() for part in maps)
    ws = generator.mapping(torch.randn(2, 6))
    assert torch.equal(generator.synthesis(ws, noise=maps), generator.synthesis(ws, noise=noise))


@pytest.mark.parametrize("options", [dict(), dict(c_dim=3), dict(growing=True), dict(half_sizes=2, conv_clamp=256.0), dict(half_sizes=3)])
def test_every_parameter_learns(options):
    torch.manual_seed(2)
    generator = Generator(StyleGAN2Config(**TINY, **options))
    image = generator(torch.randn(2, 6), torch.eye(3)[:2] if generator.config.c_dim else None)
    assert image.dtype == torch.float32
    image.square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in generator.parameters())


def test_the_limit_holds_for_the_maps_too_and_half_precision_stays_near_single():
    torch.manual_seed(4)
    z, found = torch.randn(16, 6), []
    limited = drawn(conv_clamp=0.25)
    for layer in (layer for block in limited.synthesis.blocks for layer in block.layers):
        layer.register_forward_hook(lambda module, inputs, y: found.extend(part.abs().max().item() for part in y.chunk(2, dim=1)))
    limited(z)
    assert found == [0.25] * 10  # of random layers, some value always reaches it
    single, half = drawn(), drawn(half_sizes=2)
    expected = single(z, noise_mode="const")
    assert 1e-4 < (half(z, noise_mode="const") - expected).abs().mean() / expected.abs().mean() < 0.03


def test_the_image_survives_the_disk_and_has_no_form_among_the_pt_files(tmp_path):
    generator, z = drawn(), torch.randn(2, 6)
    save_networks(StyleGAN2Checkpoint(generator.config, {"G_ema": generator.state_dict()}), tmp_path / "net")
    found = open_networks(tmp_path / "net")
    assert found.config == generator.config and torch.equal(found.generator()(z, noise_mode="const"), generator(z, noise_mode="const"))
    with pytest.raises(FaceganError, match="skip outputs and added noise"):
        convert(str(tmp_path / "net"), str(tmp_path / "net.pt"))
