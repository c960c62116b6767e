"""What the networks offer besides their equations: noise, truncation, growing, freezing, half precision, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.errors import FaceganError
from facegan.models.stylegan1 import StyleLayer
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.ops import setup_filter, upsample2d

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12)
ARCHITECTURES = ["skip", "resnet", "orig", "stylegan1"]


def drawn(network):
    """The same network, every parameter random."""
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("options", [dict(), dict(c_dim=3), dict(growing=True), dict(half_sizes=2, conv_clamp=256.0), dict(half_sizes=3)])
def test_variants_run_and_every_parameter_learns(architecture, options):
    config = StyleGAN2Config(**TINY, **options, architecture=architecture)
    torch.manual_seed(2)
    g, d = Generator(config), Discriminator(config)
    c = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) if config.c_dim else None
    image = g(torch.randn(2, 6), c)
    assert image.dtype == torch.float32 and image.shape == (2, 3, 16, 16)
    scores = d(image, c)
    assert scores.dtype == torch.float32 and scores.shape == (2,)
    scores.square().sum().backward()
    for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
        # of a growing network at its full size, the colours of smaller sizes are left alone ("skip" adds them up)
        smaller = config.growing and ("torgb" in name or "fromrgb" in name) and "b16" not in name
        learns = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert learns == (not smaller or (architecture == "skip" and "torgb" in name)), name


@pytest.mark.parametrize("kind,architecture", [*((Generator, name) for name in ARCHITECTURES), (Discriminator, "skip")])
def test_half_precision_stays_near_single(kind, architecture):
    torch.manual_seed(4)
    single = drawn(kind(StyleGAN2Config(**TINY, architecture=architecture)))
    half = kind(StyleGAN2Config(**TINY, architecture=architecture, half_sizes=2))
    half.load_state_dict(single.state_dict())
    inputs, options = (torch.randn(32, 6), dict(noise_mode="const")) if kind is Generator else (torch.randn(32, 3, 16, 16), {})
    found, expected = half(inputs, **options), single(inputs, **options)
    assert 1e-4 < (found - expected).abs().mean() / expected.abs().mean() < 0.03  # below, and nothing ran in bfloat16


@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_conv_clamp_limits_every_layer(architecture):
    config = StyleGAN2Config(**TINY, architecture=architecture, conv_clamp=0.25)
    torch.manual_seed(4)
    found = {}
    for network, inputs in ((Generator(config), torch.randn(2, 6)), (Discriminator(config), torch.randn(2, 3, 16, 16))):
        for name, module in drawn(network).named_modules():
            if name.rpartition(".")[2] in ("conv0", "conv1", "torgb", "fromrgb"):
                module.register_forward_hook(lambda module, inputs, y, name=name: found.update({name: y.abs().max().item()}))
        network(inputs)
    halved = {
        name for name in found if name.endswith("conv1") and ("synthesis" not in name or architecture == "resnet" and "b4." not in name)
    }
    assert len(halved) == (4 if architecture == "resnet" else 2)  # before they are added to another path
    for name, largest in found.items():  # of random layers, some value always reaches the limit
        assert largest == pytest.approx(0.25 * math.sqrt(0.5) if name in halved else 0.25), name


def test_conv_clamp_comes_before_stylegan1_normalises():
    layer = drawn(StyleLayer(None, 3, 4, StyleGAN2Config(**TINY, architecture="stylegan1", conv_clamp=0.25)))
    nn.init.zeros_(layer.bias)
    x, w = torch.randn(2, 3, 4, 4), layer.affine(torch.randn(2, 5))
    beyond = x.sign() * (1 + x.abs())  # every value: 0.2 sqrt 2 > 0.25
    torch.testing.assert_close(layer(beyond, w, None), layer(x.sign(), w, None))
    assert not torch.allclose(layer(beyond / 9, w, None), layer(x.sign() / 9, w, None))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_noise_that_is_given_goes_to_the_layers_in_turn(architecture):
    config = StyleGAN2Config(**TINY, architecture=architecture)
    torch.manual_seed(3)
    g = drawn(Generator(config))
    z = torch.randn(2, 6)
    first = ("layer0", "layer1") if architecture == "stylegan1" else ("conv1",)
    later = ("layer0", "layer1") if architecture == "stylegan1" else ("conv0", "conv1")
    planes = [(size, f"b{size}.{name}") for size in config.sizes for name in (first if size == 4 else later)]
    noise = torch.cat([g.synthesis.get_submodule(name).noise_const.flatten() for _, name in planes]).repeat(2, 1)
    assert noise.shape == (2, config.num_noise)
    torch.testing.assert_close(g(z, noise=noise), g(z, noise_mode="const"))
    noise.requires_grad_()
    gradient = torch.autograd.grad(g(z, noise=noise).square().sum(), noise)[0]
    assert all(part.abs().sum() > 0 for part in gradient.split([size**2 for size, _ in planes], dim=1))
    with pytest.raises(FaceganError, match=rf"noise has shape \[1, {config.num_noise}\]; expected \[N, num_noise\] = \[2, "):
        g(z, noise=noise[:1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_truncation_and_noise(architecture):
    g = drawn(Generator(StyleGAN2Config(**TINY, architecture=architecture)))
    g.mapping.track(torch.ones(4, 5), beta=0.25)
    torch.testing.assert_close(g.mapping.w_avg, torch.full((5,), 0.75))
    z = torch.randn(2, 6)
    w = g.mapping(z)
    half = g.mapping(z, psi=0.5, cutoff=3)
    torch.testing.assert_close(half[:, :3], 0.75 + 0.5 * (w[:, :3] - 0.75))
    torch.testing.assert_close(half[:, 3:], w[:, 3:])
    assert torch.equal(g(z, noise_mode="const"), g(z, noise_mode="const"))
    assert not torch.equal(g(z), g(z)) and not torch.equal(g(z, noise_mode="none"), g(z, noise_mode="const"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_grown_network_is_the_whole_one(architecture):
    torch.manual_seed(5)
    config = StyleGAN2Config(**TINY, architecture=architecture, growing=True)
    plain = StyleGAN2Config(**TINY, architecture=architecture)
    z, image = torch.randn(2, 6), torch.randn(4, 3, 16, 16)
    for network, whole in ((Generator(config), Generator(plain)), (Discriminator(config), Discriminator(plain))):
        names = whole.state_dict().keys()
        whole.load_state_dict({name: value for name, value in drawn(network).state_dict().items() if name in names})
        inputs = (z, None, dict(noise_mode="const")) if isinstance(network, Generator) else (image, None, {})
        expected = whole(*inputs[:2], **inputs[2])
        assert torch.equal(network(*inputs[:2], **inputs[2]), expected)
        assert torch.equal(network(*inputs[:2], **inputs[2], level=4), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_level_begins_where_the_one_below_ends(architecture):
    torch.manual_seed(6)
    config = StyleGAN2Config(**TINY, architecture=architecture, growing=True)
    g, d, z = drawn(Generator(config)), drawn(Discriminator(config)), torch.randn(4, 6)
    for level in (2, 3):
        small = g(z, noise_mode="const", level=level)
        begun = g(z, noise_mode="const", level=math.nextafter(level, 9))
        assert small.shape[2] == 2**level and begun.shape[2] == 2 ** (level + 1)
        torch.testing.assert_close(begun, upsample2d(small, setup_filter()), rtol=1e-4, atol=1e-4)
        ended = g(z, noise_mode="const", level=math.nextafter(level + 1, 0))
        torch.testing.assert_close(ended, g(z, noise_mode="const", level=level + 1), rtol=1e-3, atol=1e-3)
        blocks = small.repeat_interleave(2, 2).repeat_interleave(2, 3)  # their means are the small image again
        torch.testing.assert_close(d(blocks, level=math.nextafter(level, 9)), d(small, level=level), rtol=1e-4, atol=1e-4)


def test_freeze_counts_from_the_image():
    torch.manual_seed(7)
    order = ["b16.fromrgb", "b16.conv0", "b16.conv1", "b8.conv0", "b8.conv1", "b4.conv", "b4.fc"]
    image = torch.randn(2, 3, 16, 16, requires_grad=True)
    for count in range(len(order) + 1):
        d = Discriminator(StyleGAN2Config(**TINY, c_dim=2))
        d.freeze(count)
        frozen = {name.rpartition(".")[0] for name, parameter in d.named_parameters() if not parameter.requires_grad}
        beside = [f"{name.removesuffix('conv1')}skip" for name in order[:count] if name.endswith("conv1")]
        assert frozen == {*order[:count], *beside}
        d(image, torch.eye(2)).sum().backward()
        assert image.grad is not None and image.grad.any()
        assert all((p.grad is None) == (name.rpartition(".")[0] in frozen) for name, p in d.named_parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("growing", [False, True])
def test_the_image_survives_the_disk_to_the_bit(architecture, growing, tmp_path):
    torch.manual_seed(8)
    config = StyleGAN2Config(**TINY, architecture=architecture, growing=growing)
    g, d = drawn(Generator(config)), drawn(Discriminator(config))
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": g.state_dict(), "D": d.state_dict()}), tmp_path)
    found, z = open_networks(tmp_path), torch.randn(2, 6)
    assert found.config == config
    image = g(z, noise_mode="const")
    assert torch.equal(found.generator()(z, noise_mode="const"), image)
    assert torch.equal(found.discriminator()(image), d(image))


@pytest.mark.parametrize("half_sizes", range(5))
def test_half_sizes_are_the_largest(half_sizes):
    config = StyleGAN2Config(**TINY, half_sizes=half_sizes)  # 4, 8 and 16 px: more than there are means all
    assert [config.dtype(size) == torch.bfloat16 for size in config.sizes] == [3 - half_sizes <= i for i in range(3)]


def test_the_smallest_networks():
    config = StyleGAN2Config(**{**TINY, "resolution": 4}, growing=True)
    image = Generator(config)(torch.randn(2, 6), level=2)
    assert image.shape == (2, 3, 4, 4) and Discriminator(config)(image).shape == (2,)


@pytest.mark.parametrize(
    "options,words",
    [
        (dict(resolution=48), "resolution is 48; expected a power of two"),
        (dict(resolution=16.0), "resolution is 16.0; expected a whole number"),
        (dict(architecture="other"), "architecture is other; expected skip, resnet, orig or stylegan1"),
        (dict(architecture=["skip"]), "architecture is a list; expected skip"),
        (dict(growing=1), "growing is 1; expected true or false"),
        (dict(growing="yes"), "growing is yes; expected true or false"),
        (dict(growing=None), "growing is None; expected true or false"),
        (dict(conv_clamp=-1.0), "conv_clamp is -1.0; expected a number from 0.001 to 1e"),
        (dict(mapping_lr=math.nan), "mapping_lr is nan; expected a number from 1e-06 to 100"),
        (dict(mapping_lr=1e300), "mapping_lr is 1e\\+300; expected a number"),
        (dict(mapping_layers=None), "mapping_layers is None; expected a whole number"),
        (dict(z_dim=10**400), "z_dim is a whole number of 1329 bits; expected"),
        (dict(img_channels=2), "img_channels is 2; expected 1"),
        (dict(d_architecture="skip", growing=True), "d_architecture is skip; expected resnet"),
        (dict(d_architecture={}), "d_architecture is a dict; expected resnet, orig or skip"),
        (dict(activation="swish"), "activation is swish; expected linear, relu"),
        (dict(deviation_maps=5), "deviation_maps is 5; expected a divisor"),
        (dict(d_channel_base=8), "d_channel_base is 8; expected at least the resolution"),
    ],
)
def test_configurations_of_nonsense_are_refused(options, words):
    with pytest.raises(FaceganError, match=words):
        StyleGAN2Config(**options)


def test_bad_arguments():
    g, d = Generator(StyleGAN2Config(**TINY)), Discriminator(StyleGAN2Config(**TINY))
    growing = StyleGAN2Config(**TINY, growing=True)
    with pytest.raises(FaceganError, match=r"z has shape \[1, 5\]; expected \[N, z_dim\] = \[N, 6\]"):
        g(torch.zeros(1, 5))
    with pytest.raises(FaceganError, match=r"ws have shape \[1, 5, 5\]; expected \[N, 6, 5\]"):
        g.synthesis(torch.zeros(1, 5, 5))
    with pytest.raises(FaceganError, match="noise_mode is 'always'"):
        g(torch.zeros(1, 6), noise_mode="always")
    with pytest.raises(FaceganError, match=r"expected a label \[N, 3\], got none"):
        Generator(StyleGAN2Config(**TINY, c_dim=3))(torch.zeros(1, 6))
    with pytest.raises(FaceganError, match=r"images have shape \[1, 3, 8, 8\]; the discriminator expects \[N, 3, 16, 16\]"):
        d(torch.zeros(1, 3, 8, 8))
    for run in (lambda level: g(torch.zeros(1, 6), level=level), lambda level: d(torch.zeros(1, 3, 8, 8), level=level)):
        with pytest.raises(FaceganError, match="level is 3, but these networks do not grow"):
            run(3)
    for level in (1.9, 4.1, math.nan):
        with pytest.raises(FaceganError, match=rf"level is {level}; expected log2 of a size, from 2 \(4 px\) to 4 \(16 px\)"):
            Generator(growing)(torch.zeros(1, 6), level=level)
    for count in (-1, 8):
        with pytest.raises(FaceganError, match=rf"{count} layers are to be frozen; expected 0 to 7, as this discriminator has 8"):
            d.freeze(count)
    with pytest.raises(FaceganError, match="1 layers are to be frozen, but a growing discriminator"):
        Discriminator(growing).freeze(1)
