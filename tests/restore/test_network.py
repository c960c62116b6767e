"""The restorer against its equations in float64, and what it is to the prior that it was built on.

The restatement takes PyTorch's own convolutions; filters are two-dimensional, and every face has weights of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facegan.errors import FaceganError
from facegan.models.restorer import Restorer, decoder_config, embed, enlarged
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.restore.restorer import restored_faces

PLAIN = StyleGAN2Config(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12)
TINY = replace(PLAIN, noise="concat")
FILTER = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])).double() / 64


def lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def linear(state, name, x, lr=1.0):
    weight = state[f"{name}.weight"]
    return F.linear(x, weight * lr / math.sqrt(weight.shape[1]), state[f"{name}.bias"] * lr)


def filtered(x, before, after):
    """Zeros around the planes, and the filter [1, 3, 3, 1] along both sides."""
    planes = F.pad(x, (before, after, before, after)).flatten(0, 1)[:, None]
    return F.conv2d(planes, FILTER[None, None]).squeeze(1).unflatten(0, x.shape[:2])


def doubled_side(x, before, after):
    """Zeros between the pixels, and four times the filter."""
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    return 4 * filtered(spread, before, after)


def modulated(x, weight, style, padding, demodulate=True):
    """Karras et al. 2020a, eqs. 1 and 3."""
    weights = weight * style[:, None, :, None, None]
    if demodulate:
        weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return torch.cat([F.conv2d(face[None], own, padding=padding) for face, own in zip(x, weights, strict=True)])


def restored(state, config, images):
    x, maps = images, {}
    for size in reversed(config.sizes):
        weight, bias = state[f"encoder.b{size}.weight"], state[f"encoder.b{size}.bias"]
        weight = weight / math.sqrt(weight[0].numel())
        x = F.conv2d(x, weight, bias) if size == config.resolution else F.conv2d(filtered(x, 2, 2), weight, bias, stride=2)
        maps[size] = x = lrelu(x)
    w = lrelu(linear(state, "bottleneck", x.flatten(1)))
    w = w / (w.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for index in range(config.mapping_layers):
        w = lrelu(linear(state, f"generator.mapping.fc{index}", w, lr=0.01))
    x, image = state["generator.synthesis.b4.const"].expand(len(images), -1, -1, -1), None
    for size in config.sizes:
        name = f"generator.synthesis.b{size}"
        for layer in ("conv1",) if size == 4 else ("conv0", "conv1"):
            up, style = layer == "conv0", linear(state, f"{name}.{layer}.affine", w)
            x = modulated(doubled_side(x, 3, 2) if up else x, state[f"{name}.{layer}.weight"], style, padding=0 if up else 1)
            beside = maps[size] * state[f"{name}.{layer}.noise_strength"]
            x = lrelu(torch.cat([x, beside], dim=1) + state[f"{name}.{layer}.bias"][:, None, None])
        style = linear(state, f"{name}.torgb.affine", w) / math.sqrt(x.shape[1])
        colours = modulated(x, state[f"{name}.torgb.weight"], style, 0, demodulate=False) + state[f"{name}.torgb.bias"][:, None, None]
        image = colours if image is None else doubled_side(image, 2, 1) + colours
    return image


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random, and the mean style."""
    torch.manual_seed(seed)
    for tensor in [*network.parameters(), *(b for name, b in network.named_buffers() if name.endswith("w_avg"))]:
        nn.init.normal_(tensor)
    return network


def embedded(prior: Generator) -> Restorer:
    restorer = drawn(Restorer(decoder_config(prior.config)))
    embed(restorer, prior.config, prior.state_dict())
    return restorer


def style_of(restorer: Restorer, images: torch.Tensor) -> torch.Tensor:
    return restorer.generator.mapping(restorer.bottleneck(restorer.encoder(images)[-1].flatten(1)))


# --- the equations


@pytest.mark.parametrize(
    "shape", [dict(), dict(resolution=32, channel_base=64, channel_max=5, z_dim=7), dict(resolution=8, mapping_layers=8)]
)
def test_the_restorer_equals_its_equations(shape):
    config = replace(TINY, **shape)
    restorer = drawn(Restorer(config))
    images = torch.rand(3, 3, config.resolution, config.resolution) * 2 - 1
    state = {name: value.detach().double().requires_grad_() for name, value in restorer.state_dict().items()}
    theirs, images = images.double().requires_grad_(), images.requires_grad_()
    found, expected = restorer(images), restored(state, config, theirs)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    names, parameters = zip(*restorer.named_parameters(), strict=True)
    cotangent = torch.randn_like(expected)
    left = torch.autograd.grad(found, [images, *parameters], cotangent.float())
    right = torch.autograd.grad(expected, [theirs, *(state[name] for name in names)], cotangent)
    for name, ours, other in zip(["images", *names], left, right, strict=True):
        assert other.any() and (ours - other).abs().max() < 1e-3 * other.abs().max(), name


def test_every_layer_of_the_decoder_has_a_scale_and_a_bias_for_each_map():
    restorer = Restorer(TINY)
    assert [scale.shape for scale in restorer.scales()] == [()] * 5 and len({id(scale) for scale in restorer.scales()}) == 5
    biases = {name: len(bias) for name, bias in restorer.named_parameters() if name.endswith((".conv0.bias", ".conv1.bias"))}
    assert biases == {f"generator.synthesis.{name}.bias": 2 * channels for name, channels in
                      [("b4.conv1", 12), ("b8.conv0", 12), ("b8.conv1", 12), ("b16.conv0", 6), ("b16.conv1", 6)]}  # fmt: skip


def test_lower_precision_stays_near():
    restorer, lower = drawn(Restorer(TINY)), Restorer(replace(TINY, half_sizes=2, conv_clamp=1e4))
    lower.load_state_dict(restorer.state_dict())
    images = torch.rand(8, 3, 16, 16) * 2 - 1
    found, expected = lower(images), restorer(images)
    assert found.dtype == torch.float32 and 1e-4 < (found - expected).abs().mean() / expected.abs().mean() < 0.05


@torch.no_grad()
def test_a_face_does_not_depend_on_those_beside_it():
    restorer = drawn(Restorer(TINY)).eval()
    images = torch.rand(8, 3, 16, 16) * 2 - 1
    whole = restorer(images)
    for batch in (1, 3, 8):
        parts = torch.cat([restorer(part) for part in images.split(batch)])
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
        torch.testing.assert_close(restored_faces(restorer, images, batch), parts.clamp(-1, 1), rtol=1e-4, atol=1e-4)
    turned = restorer(images.flip(0)).flip(0)
    torch.testing.assert_close(turned, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


# --- the prior in it


@torch.no_grad()
@pytest.mark.parametrize("growing", [False, True])
def test_at_first_it_is_exactly_the_prior_without_noise(growing):
    prior = drawn(Generator(replace(TINY, growing=growing)))
    restorer, images = embedded(prior), torch.rand(4, 3, 16, 16) * 2 - 1
    assert torch.equal(restorer(images), prior.synthesis(style_of(restorer, images), "none"))
    assert all(float(scale) == 0 for scale in restorer.scales())
    assert torch.equal(restorer.generator.mapping.w_avg, prior.mapping.w_avg)
    next(iter(restorer.scales())).fill_(0.1)
    assert not torch.allclose(restorer(images), prior.synthesis(style_of(restorer, images), "none"), rtol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("shape", [dict(), dict(resolution=8, channel_base=8), dict(resolution=32, channel_base=256, channel_max=16),
                                   dict(growing=True), dict(conv_clamp=0.5)])  # fmt: skip
def test_a_lifted_prior_keeps_its_pictures(shape):
    prior = drawn(Generator(replace(PLAIN, **shape)))
    restorer = embedded(prior)
    images = torch.rand(4, 3, prior.config.resolution, prior.config.resolution) * 2 - 1
    expected = prior.synthesis(style_of(restorer, images), "none")
    torch.testing.assert_close(restorer(images), expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))
    assert all(float(scale) == 1 for scale in restorer.scales())
    assert torch.equal(restorer.generator.mapping.w_avg, prior.mapping.w_avg)


def through_the_maps(restorer: Restorer) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Gradients of a picture by the encoder's maps, the styles held, and by the decoder's parameters."""
    torch.manual_seed(5)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    maps = [part.detach().requires_grad_() for part in restorer.encoder(images)]
    picture = restorer.generator.synthesis(style_of(restorer, images).detach(), noise=maps[::-1])
    names, parameters = zip(*restorer.generator.synthesis.named_parameters(), strict=True)
    found = torch.autograd.grad(picture, [*maps, *parameters], torch.randn_like(picture))
    return list(found[: len(maps)]), dict(zip(names, found[len(maps) :], strict=True))


@pytest.mark.parametrize("prior", [PLAIN, TINY], ids=["lifted", "concatenated"])
def test_both_forms_learn_from_the_maps(prior):
    """Of scale times weight one is zero at first, so that one of them learns: both zero would be silent for ever."""
    maps, gradients = through_the_maps(embedded(drawn(Generator(prior))))
    assert not any(gradient.any() for gradient in maps)  # at first the encoder learns by the style alone
    channels = {"b4.conv1": None, "b8.conv0": 12, "b8.conv1": 12, "b16.conv0": 12, "b16.conv1": 6}
    for layer, own in channels.items():
        assert bool(gradients[f"{layer}.noise_strength"].any()) == (prior is TINY), layer
        if own is not None:
            assert gradients[f"{layer}.weight"][:, own:].any(), layer
    assert all(gradients[f"b{size}.torgb.weight"][:, own:].any() for size, own in ((4, 12), (8, 12), (16, 6)))


def test_the_encoder_learns_by_the_maps_after_a_step():
    restorer = embedded(drawn(Generator(PLAIN)))
    _, gradients = through_the_maps(restorer)
    with torch.no_grad():
        for name, parameter in restorer.generator.synthesis.named_parameters():
            parameter -= 1e-3 * gradients[name]
    assert all(gradient.any() for gradient in through_the_maps(restorer)[0])


# --- refusals


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 1, 16, 16), (1, 3, 16, 8), (3, 16, 16), (1, 3, 32, 32)])
def test_other_shapes_are_refused_in_words(shape):
    with pytest.raises(FaceganError, match=r"images have shape \[.*\]; this restorer expects \[N, 3, 16, 16\]"):
        Restorer(TINY)(torch.zeros(shape))


def test_what_cannot_be_a_decoder_is_refused_in_words():
    for config in (PLAIN, replace(TINY, c_dim=2), replace(TINY, growing=True)):
        with pytest.raises(FaceganError, match="a restorer's decoder has noise concatenated, no labels, and does not grow; got noise="):
            Restorer(config)
    for config in (replace(PLAIN, c_dim=2), replace(PLAIN, architecture="resnet"), replace(PLAIN, architecture="stylegan1")):
        with pytest.raises(FaceganError, match=f"this one has {config.c_dim} label.* and architecture {config.architecture}"):
            decoder_config(config)
    assert decoder_config(replace(PLAIN, growing=True)) == TINY


# --- a restorer of twice the size


@pytest.mark.parametrize("channel_base,resolution", [(96, 16), (200, 32)])
def test_a_larger_restorer_first_restores_as_the_smaller_one(channel_base: int, resolution: int) -> None:
    config = replace(TINY, resolution=resolution // 2, channel_base=channel_base)
    small, large = drawn(Restorer(config)), drawn(Restorer(replace(config, resolution=resolution)), seed=1)
    images = torch.rand(3, 3, resolution, resolution) * 2 - 1
    halved = F.conv2d(F.pad(images.double(), (1, 1, 1, 1)).flatten(0, 1)[:, None], FILTER[None, None], stride=2)
    halved = halved.squeeze(1).unflatten(0, images.shape[:2])
    state = small.state_dict()
    expected = doubled_side(restored({name: value.double() for name, value in state.items()}, config, halved), 2, 1)
    large.load_state_dict(enlarged(large, state))
    found = large(images)
    assert expected.std() > 0.1 and (found - expected).abs().max() < 1e-4 * expected.abs().max()
    found.square().sum().backward()  # the new block's colours learn at once
    assert large.generator.synthesis.get_submodule(f"b{resolution}.torgb").weight.grad.any()
    weight = large.encoder.get_submodule(f"b{resolution}").weight.grad
    assert weight is not None and weight.any()


def test_a_larger_restorer_needs_channels_for_the_colours() -> None:
    small = Restorer(replace(TINY, resolution=8, channel_base=64))
    large = Restorer(replace(small.config, resolution=16))
    with pytest.raises(FaceganError, match="the first map of a 16 px restorer has 4 channels here, and six hold the colours"):
        enlarged(large, small.state_dict())
