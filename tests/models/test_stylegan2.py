"""The networks against a restatement of the papers' equations in float64.

Filters are matrices here, convolutions products with patches, and every sample has weights of its own.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config, minibatch_deviation

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12)
FIR = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def linear(state, name, x, lr=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * lr / math.sqrt(weight.shape[1])).T + bias * lr


def filtered(x, count, tap):
    """Along both sides: output p is the sum over pixels i of FIR[tap(p, i)] / 8, where there is such a tap."""
    taps = torch.tensor([[tap(p, i) for i in range(x.shape[2])] for p in range(count)])
    matrix = torch.where((taps >= 0) & (taps < 4), FIR[taps.clamp(0, 3)] / FIR.sum(), 0.0)
    return matrix @ x @ matrix.T


def upsampled(x, margin=0):
    """Zeros between the pixels, pixel i at 2 i, then the filter, of twice the sum in each direction, and a margin around the plane."""
    return 4 * filtered(x, 2 * x.shape[2] + 2 * margin, lambda p, i: 2 * i - p + 2 + margin)


def correlated(x, weight, stride=1, padding=0):
    """`weight` [O, I, K, K], or [N, O, I, K, K] with one for every sample."""
    patches = F.unfold(x, weight.shape[-1], padding=padding, stride=stride)
    side = (x.shape[2] + 2 * padding - weight.shape[-1]) // stride + 1
    return (weight.flatten(-3) @ patches).unflatten(2, (side, side))


def modulated(x, weight, style, demodulate, padding):
    """Karras et al. 2020a, eqs. 1 and 3."""
    weight = weight * style[:, None, :, None, None]
    if demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return correlated(x, weight, padding=padding)


def normalised(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def mapped(state, config, z, c=None):
    """Karras et al. 2019, section 2, and with a label its embedding beside z."""
    parts = [] if z is None else [normalised(z)]
    if c is not None:
        parts.append(normalised(linear(state, "mapping.embed", c)))
    w = torch.cat(parts, dim=1)
    for index in range(config.mapping_layers):
        w = lrelu(linear(state, f"mapping.fc{index}", w, lr=0.01))
    return w


def convolved(state, name, x, down=False, up=False):
    """Equalised learning rate. The filter runs at the larger size: before every second pixel is taken, after zeros were put in."""
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias", torch.zeros(1, dtype=torch.float64))
    weight, p = weight / math.sqrt(weight[0].numel()), weight.shape[2] // 2
    if down:
        x = filtered(x, x.shape[2] - 1 + 2 * p, lambda q, i: i - q + 1 + p)
    x = upsampled(x, margin=p) if up else x
    return correlated(x, weight, stride=2 if down else 1, padding=0 if up or down else p) + bias[:, None, None]


def layer2(state, name, x, w, noise, up=False):
    """StyleGAN2: the style is in the weights."""
    style = linear(state, f"{name}.affine", w)
    x = modulated(upsampled(x, margin=1) if up else x, state[f"{name}.weight"], style, True, padding=0 if up else 1)
    return lrelu(x + noise * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None])


def layer1(state, name, x, w, noise, up=False):
    """StyleGAN1: noise on every channel by its own strength, and the style after instance normalisation."""
    if f"{name}.conv.weight" in state:
        x = convolved(state, f"{name}.conv", x, up=up)
    x = lrelu(x + noise * state[f"{name}.noise_strength"][:, None, None] + state[f"{name}.bias"][:, None, None])
    scale, shift = linear(state, f"{name}.affine", w)[..., None, None].tensor_split(2, dim=1)
    deviation = (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    return scale * (x - x.mean((2, 3), keepdim=True)) / deviation + shift


def features(state, config, ws, noises, top):
    """{size: (maps after its block, the style behind it)} up to `top`; `ws` and `noises` run from layer to layer."""
    styles, first, found = iter(ws.unbind(1)), config.architecture == "stylegan1", {}
    x, w = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1), next(styles)
    for size in [size for size in config.sizes if size <= top]:
        name = f"synthesis.b{size}"
        if first:
            x = layer1(state, f"{name}.layer0", x, w, next(noises), up=size > 4)
            x = layer1(state, f"{name}.layer1", x, next(styles), next(noises))
        elif size == 4:
            x = layer2(state, f"{name}.conv1", x, w, next(noises))
        else:
            y = layer2(state, f"{name}.conv1", layer2(state, f"{name}.conv0", x, w, next(noises), up=True), next(styles), next(noises))
            x = y if config.architecture == "skip" else (y + convolved(state, f"{name}.skip", x, up=True)) * math.sqrt(0.5)
        w = next(styles, None)
        found[size] = x, w
    return found


def rgb(state, config, size, x, w):
    name = f"synthesis.b{size}.torgb"
    if config.architecture == "stylegan1":
        return convolved(state, name, x)
    style = linear(state, f"{name}.affine", w) / math.sqrt(x.shape[1])
    return modulated(x, state[f"{name}.weight"], style, False, 0) + state[f"{name}.bias"][:, None, None]


def generated(state, config, ws, noises, level=None):
    """The colours of all sizes summed ("skip"), or those of the last; while that fades in, between it and the size below."""
    level = math.log2(config.resolution) if level is None else level
    top, fade = 2 ** math.ceil(level), level - (math.ceil(level) - 1)
    found = features(state, config, ws, noises, top)
    if config.architecture == "skip":
        image = 0
        for size in found:
            colours = rgb(state, config, size, *found[size])
            image = colours if size == 4 else upsampled(image) + (fade if size == top else 1) * colours
        return image
    image = rgb(state, config, top, *found[top])
    return image if fade == 1 else fade * image + (1 - fade) * upsampled(rgb(state, config, top // 2, *found[top // 2]))


def judged(state, config, image, c=None, level=None):
    level = math.log2(config.resolution) if level is None else level
    top, fade = 2 ** math.ceil(level), level - (math.ceil(level) - 1)
    x = lrelu(convolved(state, f"b{top}.fromrgb", image))
    for size in [size for size in config.sizes[:0:-1] if size <= top]:
        skipped = convolved(state, f"b{size}.skip", x, down=True)
        x = lrelu(convolved(state, f"b{size}.conv1", lrelu(convolved(state, f"b{size}.conv0", x)), down=True))
        x = (skipped + x) * math.sqrt(0.5)
        if size == top and fade < 1:
            small = sum(image[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
            x = fade * x + (1 - fade) * lrelu(convolved(state, f"b{size // 2}.fromrgb", small))
    deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean()
    x = lrelu(convolved(state, "b4.conv", torch.cat([x, deviation.expand(len(x), 1, 4, 4)], dim=1)))
    x = linear(state, "b4.out", lrelu(linear(state, "b4.fc", x.flatten(1))))
    return x.squeeze(1) if c is None else (x * mapped(state, config, None, c)).sum(1) / math.sqrt(x.shape[1])


def doubled(network):
    """Its parameters as float64 leaves, after random numbers on all of them, so that noise strengths and biases count."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}
    return {name: state[name].requires_grad_() for name, _ in network.named_parameters()}


def close(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


def gradients_agree(network, state, found, expected, retain=False):
    """By a random cotangent, for every parameter."""
    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad(found, list(network.parameters()), cotangent.float(), allow_unused=True, retain_graph=retain)
    theirs = torch.autograd.grad(expected, list(state.values()), cotangent, allow_unused=True, retain_graph=retain)
    for name, left, right in zip(state, ours, theirs, strict=True):
        if right is None or not right.any():
            assert left is None or not left.any(), name
        else:
            close(left, right, 1e-3)


def drawn_noise(config, n):
    """[n, num_noise], and the same as planes in float64, one for each layer."""
    sides = [size for size in config.sizes for _ in range(1 if size == 4 and config.architecture != "stylegan1" else 2)]
    planes = [torch.randn(n, 1, side, side) for side in sides]
    return torch.cat([plane.flatten(1) for plane in planes], dim=1), (plane.double() for plane in planes)


ARCHITECTURES = ["skip", "resnet", "stylegan1"]
LEVELS = [None, 2.0, 2.7, 3.0, 3.3, 4.0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("level", LEVELS)
def test_generator_equals_its_equations(architecture, level):
    config = StyleGAN2Config(**TINY, architecture=architecture, growing=level is not None)
    torch.manual_seed(0)
    network = Generator(config)
    state, z, (noise, planes) = doubled(network), torch.randn(3, 6), drawn_noise(config, 3)
    w = mapped(state, config, z.double())
    close(network.mapping(z)[:, -1], w)
    expected = generated(state, config, w[:, None].expand(-1, config.num_ws, -1), planes, level)
    found = network(z, noise=noise, level=level)
    close(found, expected)
    gradients_agree(network, state, found, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_path_length_and_its_gradient_equal_their_equations(architecture):
    """Every layer by a style of its own, and second order: the image's gradient by the styles (Karras et al. 2020a, eq. 4)."""
    config = StyleGAN2Config(**TINY, architecture=architecture)
    torch.manual_seed(2)
    network = Generator(config)
    state, ws, (noise, planes) = doubled(network), torch.randn(2, config.num_ws, 5, requires_grad=True), drawn_noise(config, 2)
    theirs, direction = ws.detach().double().requires_grad_(), torch.randn(2, 3, 16, 16)
    image, expected = network.synthesis(ws, noise=noise), generated(state, config, theirs, planes)
    close(image, expected)
    found = torch.autograd.grad(image, ws, direction, create_graph=True)[0].square().sum((1, 2))
    expected = torch.autograd.grad(expected, theirs, direction.double(), create_graph=True)[0].square().sum((1, 2))
    close(found, expected)
    gradients_agree(network, state, found, expected)


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("level", LEVELS)
def test_discriminator_equals_its_equations(c_dim, level):
    config = StyleGAN2Config(**TINY, c_dim=c_dim, growing=level is not None)
    torch.manual_seed(3)
    network = Discriminator(config)
    side = 16 if level is None else 2 ** math.ceil(level)
    state, image = doubled(network), torch.randn(4, 3, side, side, requires_grad=True)
    theirs = image.detach().double().requires_grad_()
    c = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]]) if c_dim else None
    found, expected = network(image, c, level=level), judged(state, config, theirs, None if c is None else c.double(), level)
    close(found, expected)
    gradients_agree(network, state, found, expected, retain=True)
    # R1 (Mescheder et al. 2018): second order
    found = torch.autograd.grad(found.sum(), image, create_graph=True)[0].square().sum((1, 2, 3))
    expected = torch.autograd.grad(expected.sum(), theirs, create_graph=True)[0].square().sum((1, 2, 3))
    close(found, expected)
    gradients_agree(network, state, found, expected)


def test_conditional_mapping_equals_its_equations():
    config = StyleGAN2Config(**TINY, c_dim=3)
    torch.manual_seed(4)
    network = Generator(config)
    state, z, c = doubled(network), torch.randn(4, 6), torch.rand(4, 3).round()
    c[0] = 0  # no attribute at all
    close(network.mapping(z, c), mapped(state, config, z.double(), c.double())[:, None].expand(-1, config.num_ws, -1))


def test_minibatch_deviation_groups_images_that_lie_apart():
    x = torch.randn(6, 2, 3, 3)
    maps = minibatch_deviation(x, 4)  # 6 is not divisible by 4: groups of 3, images 0 2 4 and 1 3 5
    for first in (0, 1):
        group = x[[first, first + 2, first + 4]]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(maps[[first, first + 2, first + 4]], expected.expand(3, 1, 3, 3))
