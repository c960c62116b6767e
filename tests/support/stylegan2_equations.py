"""StyleGAN2 and StyleGAN1 as the papers' equations have them, restated in float64 for comparison.

Filters are matrices here, convolutions products with patches, and every sample has weights of its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

FIR = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: torch.where(x > 0, x, 0.0) * math.sqrt(2),
    "lrelu": lambda x: torch.where(x > 0, x, 0.2 * x) * math.sqrt(2),
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
}
lrelu = ACTIVATIONS["lrelu"]


def limited(x, limit):
    return x if limit is None else torch.where(x > limit, limit, torch.where(x < -limit, -limit, x))


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
    layers, lr = config.mapping_layers, config.mapping_lr
    if z is None:  # of the discriminator
        layers, lr = config.d_mapping_layers or layers, config.d_mapping_lr or lr
    for index in range(layers):
        w = ACTIVATIONS[config.mapping_activation](linear(state, f"mapping.fc{index}", w, lr))
    return w


def convolved(state, name, x, down=False, up=False):
    """Equalised learning rate. The filter runs at the larger size: before every second pixel is taken, after zeros were put in."""
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias", torch.zeros(1, dtype=torch.float64))
    weight, p = weight / math.sqrt(weight[0].numel()), weight.shape[2] // 2
    if down:
        x = filtered(x, x.shape[2] - 1 + 2 * p, lambda q, i: i - q + 1 + p)
    x = upsampled(x, margin=p) if up else x
    return correlated(x, weight, stride=2 if down else 1, padding=0 if up or down else p) + bias[:, None, None]


def layer2(state, config, name, x, w, noise, up=False):
    """StyleGAN2: the style is in the weights."""
    style = linear(state, f"{name}.affine", w)
    x = modulated(upsampled(x, margin=1) if up else x, state[f"{name}.weight"], style, True, padding=0 if up else 1)
    x = x + noise * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
    return limited(ACTIVATIONS[config.activation](x), config.conv_clamp)


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
            x = layer2(state, config, f"{name}.conv1", x, w, next(noises))
        else:
            y = layer2(state, config, f"{name}.conv0", x, w, next(noises), up=True)
            y = layer2(state, config, f"{name}.conv1", y, next(styles), next(noises))
            x = y if config.architecture != "resnet" else (y + convolved(state, f"{name}.skip", x, up=True)) * math.sqrt(0.5)
        w = next(styles, None)
        found[size] = x, w
    return found


def rgb(state, config, size, x, w):
    name = f"synthesis.b{size}.torgb"
    if config.architecture == "stylegan1":
        return convolved(state, name, x)
    style = linear(state, f"{name}.affine", w) / math.sqrt(x.shape[1])
    return limited(modulated(x, state[f"{name}.weight"], style, False, 0) + state[f"{name}.bias"][:, None, None], config.conv_clamp)


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


def deviations(x, group, maps):
    """Groups of images that lie apart; a deviation for each of `maps` parts of the channels (Karras et al. 2018, section 3)."""
    count, found = len(x) // group, torch.empty(len(x), maps, dtype=x.dtype)
    for first in range(count):
        for part, channels in enumerate(x[first::count].chunk(maps, dim=1)):
            found[first::count, part] = (channels.var(0, correction=0) + 1e-8).sqrt().mean()
    return found[:, :, None, None].expand(-1, -1, 4, 4)


def judged(state, config, image, c=None, level=None):
    level = math.log2(config.resolution) if level is None else level
    top, fade = 2 ** math.ceil(level), level - (math.ceil(level) - 1)
    act, limit, kind = ACTIVATIONS[config.d_activation], config.conv_clamp, config.d_architecture

    def layer(name, x, down=False, limit=limit):
        return limited(act(convolved(state, name, x, down=down)), limit)

    x = layer(f"b{top}.fromrgb", image)
    for size in [size for size in config.sizes[:0:-1] if size <= top]:
        y = layer(f"b{size}.conv1", layer(f"b{size}.conv0", x), down=True)
        if kind == "resnet":
            skipped = convolved(state, f"b{size}.skip", x, down=True)
            y = (limited(skipped, limit if config.d_skip_clamp else None) + y) * math.sqrt(0.5)
        x = y
        if kind == "skip":
            image = filtered(image, size // 2, lambda p, i: i - 2 * p + 1)
            x = x + layer(f"b{size // 2}.fromrgb", image, limit=None if size == 8 else limit)
        if size == top and fade < 1:
            small = sum(image[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
            x = fade * x + (1 - fade) * layer(f"b{size // 2}.fromrgb", small)
    if config.deviation_maps:
        x = torch.cat([x, deviations(x, min(config.group, len(x)), config.deviation_maps)], dim=1)
    x = linear(state, "b4.out", act(linear(state, "b4.fc", layer("b4.conv", x).flatten(1))))
    return x.squeeze(1) if c is None else (x * mapped(state, config, None, c)).sum(1) / math.sqrt(x.shape[1])
