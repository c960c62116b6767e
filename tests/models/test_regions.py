"""Synthesis with styles that hold in regions of the image, against the papers' equations layer by layer in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from stylegan2_equations import ACTIVATIONS, convolved, correlated, layer1, layer2, limited, linear, modulated, rgb, upsampled

from facegan.errors import FaceganError
from facegan.models.regions import Regions
from facegan.models.stylegan2 import StyleGAN2Config, Synthesis

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=96, channel_max=12)
ARCHITECTURES = ["skip", "resnet", "orig", "stylegan1"]
SHARES = {"shared": 1, "as it comes": 16, "blended": 32}  # px from which one convolution serves all styles


def weighted(parts, shares):
    """sum_k share_k part_k: maps [N, C, H, W] or styles [N, C], shares [N, 1 + K, H, W]."""
    return sum(shares[:, k : k + 1] * (part if part.ndim == 4 else part[:, :, None, None]) for k, part in enumerate(parts))


def layer(state, config, name, x, ws, noise, shares, blend, up=False):
    if blend:
        return weighted([layer2(state, config, name, x, w, noise, up) for w in ws], shares)
    weight, styles = state[f"{name}.weight"], [linear(state, f"{name}.affine", w) for w in ws]
    norms = [((weight * style[:, None, :, None, None]).square().sum((2, 3, 4)) + 1e-8).sqrt() for style in styles]
    x = x * weighted(styles, F.avg_pool2d(shares, 2) if up else shares)
    x = correlated(upsampled(x, margin=1) if up else x, weight, padding=0 if up else 1) * weighted([1 / norm for norm in norms], shares)
    x = x + noise * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
    return limited(ACTIVATIONS[config.activation](x), config.conv_clamp)


def colours(state, config, size, x, ws, shares):
    if config.architecture == "stylegan1":
        return rgb(state, config, size, x, None)
    name = f"synthesis.b{size}.torgb"
    styles = [linear(state, f"{name}.affine", w) / math.sqrt(x.shape[1]) for w in ws]
    each = [modulated(x, state[f"{name}.weight"], style, False, 0) for style in styles]
    return limited(weighted(each, shares) + state[f"{name}.bias"][:, None, None], config.conv_clamp)


def generated(state, config, table, masks, noises, shared_from):
    """Styles `table` [N, 1 + K, num_ws, w_dim], the first where no mask is."""
    styles, image = iter(table.permute(2, 1, 0, 3)), None
    full = torch.cat([1 - masks.sum(1, keepdim=True), masks], 1).expand(len(table), -1, -1, -1)
    x, ws = state["synthesis.b4.const"].expand(len(table), -1, -1, -1), next(styles)
    for size in config.sizes:
        name, blend = f"synthesis.b{size}", size < shared_from
        shares = F.avg_pool2d(full, config.resolution // size)
        if config.architecture == "stylegan1":
            x = weighted([layer1(state, f"{name}.layer0", x, w, noise, up=size > 4) for noise in [next(noises)] for w in ws], shares)
            ws = next(styles)
            x = weighted([layer1(state, f"{name}.layer1", x, w, noise) for noise in [next(noises)] for w in ws], shares)
        elif size == 4:
            x = layer(state, config, f"{name}.conv1", x, ws, next(noises), shares, blend)
        else:
            y = layer(state, config, f"{name}.conv0", x, ws, next(noises), shares, blend, up=True)
            y = layer(state, config, f"{name}.conv1", y, next(styles), next(noises), shares, blend)
            x = y if config.architecture != "resnet" else (y + convolved(state, f"{name}.skip", x, up=True)) * math.sqrt(0.5)
        ws = next(styles, None)
        if config.architecture == "skip":
            image = colours(state, config, size, x, ws, shares) + (0 if image is None else upsampled(image))
    return image if image is not None else colours(state, config, config.resolution, x, ws, shares)


def network_of(config, seed=0):
    """A network with random numbers on all parameters, and them in float64."""
    torch.manual_seed(seed)
    network = Synthesis(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    state = {f"synthesis.{name}": value.detach().double() for name, value in network.state_dict().items()}
    return network, {
        name: value.requires_grad_(name.removeprefix("synthesis.") in dict(network.named_parameters())) for name, value in state.items()
    }


def inputs_of(config, count, n=2, each=True):
    """ws, styles of regions, masks that leave a part to the face's own style, noise as one vector and as planes in float64."""
    ws, others = torch.randn(n, config.num_ws, config.w_dim), torch.randn(n, count, config.num_ws, config.w_dim)
    masks = torch.randn(n if each else 1, 1 + count, config.resolution, config.resolution).mul(3).softmax(1)[:, 1:]
    sides = [size for size in config.sizes for _ in range(1 if size == 4 and config.architecture != "stylegan1" else 2)]
    planes = [torch.randn(n, 1, side, side) for side in sides]
    return ws, others, masks, torch.cat([plane.flatten(1) for plane in planes], dim=1), (plane.double() for plane in planes)


def close(found, expected, tolerance=2e-4):
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("count", [1, 2])
def test_equals_the_equations(architecture, shares, count):
    config = StyleGAN2Config(**TINY, architecture=architecture, conv_clamp=20.0)
    network, state = network_of(config)
    ws, others, masks, noise, planes = inputs_of(config, count, each=count == 2)
    table = torch.cat([ws[:, None], others], 1).double()
    expected = generated(state, config, table, masks.double(), planes, SHARES[shares])
    close(network(ws, noise=noise, regions=Regions(others, masks, SHARES[shares])), expected)
    with torch.no_grad():
        close(network(ws, noise=noise, regions=Regions(others, masks, SHARES[shares])), expected)


@pytest.mark.parametrize("architecture", ["skip", "stylegan1"])
@pytest.mark.parametrize("shares", SHARES)
def test_gradients_of_both_orders(architecture, shares):
    """To parameters, all styles and masks; path length's penalty (Karras et al. 2020a, eq. 4) for the second."""
    config = StyleGAN2Config(**TINY, architecture=architecture)
    network, state = network_of(config, 1)
    ws, others, masks, noise, planes = inputs_of(config, 2)
    ours = [t.requires_grad_() for t in (ws, others, masks)]
    theirs = [t.detach().double().requires_grad_() for t in ours]
    image = network(ws, noise=noise, regions=Regions(others, masks, SHARES[shares]))
    expected = generated(state, config, torch.cat([theirs[0][:, None], theirs[1]], 1), theirs[2], planes, SHARES[shares])
    direction = torch.randn_like(image)
    first = torch.autograd.grad(image, ours, direction, create_graph=True)
    of_theirs = torch.autograd.grad(expected, theirs, direction.double(), create_graph=True)
    for found, right in zip(first, of_theirs, strict=True):
        close(found, right, 1e-3)
    names = [name for name, _ in network.named_parameters()]
    penalties = first[0].square().sum() + first[1].square().sum(), of_theirs[0].square().sum() + of_theirs[1].square().sum()
    found = torch.autograd.grad(penalties[0], [*network.parameters(), *ours], allow_unused=True)
    right = torch.autograd.grad(penalties[1], [*(state[f"synthesis.{name}"] for name in names), *theirs], allow_unused=True)
    for name, left, other in zip([*names, "ws", "others", "masks"], found, right, strict=True):
        if other is None or not other.any():
            assert left is None or not left.any(), name
        else:
            close(left, other, 2e-3)


@pytest.mark.parametrize("options", [*(dict(architecture=a) for a in ARCHITECTURES), dict(noise="concat"), dict(half_sizes=2)], ids=str)
@pytest.mark.parametrize("shares", SHARES)
def test_no_mask_is_the_face_and_a_full_one_another(options, shares):
    """Nearly: s + 0 (t - s) is s, but sums are taken in another order."""
    config = StyleGAN2Config(**TINY, **options)
    network, _ = network_of(config)
    ws, others, masks, *_ = inputs_of(config, 2)
    one = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)], 1)
    tolerance = dict(rtol=0, atol=0.03 if config.half_sizes else 1e-4)
    with torch.no_grad():
        for mask, expected in ((torch.zeros_like(masks), network(ws, "const")), (one, network(others[:, 1], "const"))):
            found = network(ws, "const", regions=Regions(others, mask, SHARES[shares]))
            scale = expected.abs().max()
            torch.testing.assert_close(found / scale, expected / scale, **tolerance)


def test_the_other_side_of_an_edge_keeps_its_pixels():
    """With one layer after another blended, what is far from the mask is the face's own, to the last bit but for noise of order."""
    config = StyleGAN2Config(**{**TINY, "resolution": 64})
    network, _ = network_of(config)
    ws, others, *_ = inputs_of(config, 1)
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 48:, :] = 1
    with torch.no_grad():
        own, found = network(ws, "const"), network(ws, "const", regions=Regions(others, masks))
    change = (found - own).abs().mean((0, 1, 3))
    assert change[:8].max() < 0.2 * change[56:].mean()


def test_a_growing_network_at_its_levels():
    config = StyleGAN2Config(**TINY, growing=True)
    network, _ = network_of(config)
    ws, others, masks, *_ = inputs_of(config, 1)
    for level in (2.0, 2.6, 4.0):
        with torch.no_grad():
            image = network(ws, "const", level=level, regions=Regions(others, torch.zeros_like(masks)))
            expected = network(ws, "const", level=level)
        close(image, expected.double())


@pytest.mark.parametrize(
    "ws,masks,words",
    [
        ((2, 1, 6, 5), (1, 1, 8, 8), r"masks have shape \[1, 1, 8, 8\]; expected \[1 or 2, 1, 16, 16\]"),
        ((2, 1, 6, 5), (3, 1, 16, 16), r"masks have shape \[3, 1, 16, 16\]"),
        ((2, 2, 6, 5), (1, 1, 16, 16), r"expected \[1 or 2, 2, 16, 16\], one per region"),
        ((1, 1, 6, 5), (1, 1, 16, 16), r"styles of regions have shape \[1, 1, 6, 5\]; expected \[2, K, 6, 5\]"),
        ((2, 6, 5), (1, 1, 16, 16), r"styles of regions have shape \[2, 6, 5\]"),
        ((2, 0, 6, 5), (1, 0, 16, 16), r"styles of regions have shape \[2, 0, 6, 5\]"),
    ],
)
def test_bad_regions(ws, masks, words):
    config = StyleGAN2Config(**TINY)
    assert config.num_ws == 6
    with pytest.raises(FaceganError, match=words):
        Synthesis(config)(torch.zeros(2, 6, 5), regions=Regions(torch.zeros(ws), torch.zeros(masks)))
