"""Synthesis from points of style space: the layers' scales, as the affine maps make them, against affines made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from stylegan2_equations import linear

from facegan.errors import FaceganError
from facegan.models.regions import Regions
from facegan.models.stylegan2 import Generator, StyleGAN2Config, Synthesis

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=96, channel_max=12)
OPTIONS = [
    *(dict(architecture=name) for name in ("skip", "resnet", "orig", "stylegan1")),
    *(dict(noise="concat"), dict(half_sizes=2), dict(growing=True), dict(growing=True, architecture="resnet")),
]  # fmt: skip


def drawn(**options):
    torch.manual_seed(0)
    network = Synthesis(StyleGAN2Config(**TINY, **options))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    return network, torch.randn(3, network.config.num_ws, 5), torch.randn(3, network.config.num_ws, 5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_point_of_style_space_is_every_layers_affine_and_makes_the_face_of_its_styles(options):
    network, ws, _ = drawn(**options)
    state = {name: value.double() for name, value in network.state_dict().items()}
    layers = [name.removesuffix(".affine.weight") for name in state if name.endswith(".affine.weight")]
    assert sorted(layers) == sorted(network.config.style_channels)
    expected, first = [], 0  # layer by layer, with the styles that Karras et al. 2020a, fig. 2, gives them
    for size in network.config.sizes:
        own = [name for name in network.config.style_channels if name.startswith(f"b{size}.")]
        for index, name in enumerate(own):
            gain = 1 / math.sqrt(network.config.style_channels[name]) if name.endswith("torgb") else 1
            expected.append(linear(state, f"{name}.affine", ws[:, first + index].double()) * gain)
        first += sum(not name.endswith("torgb") for name in own)
    points = network.style_space(ws)
    torch.testing.assert_close(points.double(), torch.cat(expected, 1), rtol=1e-4, atol=1e-4)
    assert points.shape == (3, network.config.num_style_channels)
    assert [part.shape[1] for part in expected] == [*network.config.style_channels.values()]
    with torch.no_grad():
        assert torch.equal(network(points, "const"), network(ws, "const"))
        if network.config.growing:
            assert torch.equal(network(points, "const", level=2.4), network(ws, "const", level=2.4))


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_scales_between_two_faces_are_those_of_styles_between_them(options):
    """Affine maps: A(w + a (v - w)) = A(w) + a (A(v) - A(w)), so that all channels together are what mixing in W is."""
    network, ws, others = drawn(**options)
    network.double()
    ws, others = ws.double(), others.double()
    with torch.no_grad():
        row, column = network.style_space(ws), network.style_space(others)
        for gain in (0.0, 0.3, 1.0, 1.7):
            image = network(row + gain * (column - row), "const")
            torch.testing.assert_close(image, network(ws + gain * (others - ws), "const"), rtol=1e-6, atol=1e-6)
        assert torch.equal(network(torch.lerp(row, column, torch.ones(row.shape[1]).double()), "const"), network(others, "const"))


def test_one_channel_is_one_column_of_a_modulated_weight():
    """The scale of channel c of conv1 at 16 px multiplies the weights that read it: the same face comes of a network whose weights are so
    multiplied, demodulation included."""
    network, ws, _ = drawn()
    network.double()
    point = network.style_space(ws.double()).detach()
    counts = network.config.style_channels
    place = sum([*counts.values()][: [*counts].index("b16.conv1")])
    moved = point.clone()
    moved[:, place + 2] *= -1.7
    with torch.no_grad():
        found = network(moved, "const")
        network.b16.conv1.weight[:, 2] *= -1.7
        torch.testing.assert_close(found, network(point, "const"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_regions_hold_points_of_style_space(options):
    network, ws, others = drawn(**options)
    masks = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        row, column = network.style_space(ws), network.style_space(others)
        expected = network(ws, "const", regions=Regions(others[:, None], masks))
        found = network(row, "const", regions=Regions(column[:, None], masks))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # products of other sizes round otherwise


def test_gradients_reach_every_channel_and_what_decides_how_much_of_it_is_taken():
    network, ws, others = drawn()
    network.double()
    row, column = (network.style_space(each.double()).detach() for each in (ws, others))
    gains = torch.full((row.shape[1],), 0.3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(3, 3, 16, 16, dtype=torch.float64)

    def value(gains):
        return (network(row + gains * (column - row), "const") * direction).sum()

    (gradient,) = torch.autograd.grad(value(gains), gains)
    with torch.no_grad():
        for place in (0, 13, 40, row.shape[1] - 1):
            step = torch.zeros_like(gains)
            step[place] = 1e-3
            assert float(gradient[place]) == pytest.approx(float(value(gains + step) - value(gains - step)) / 2e-3, rel=5e-3, abs=0.05)


@pytest.mark.parametrize("shape", [(2, 5), (2, 7, 5), (2, 6, 4), (2, 1, 6, 5)])
def test_what_is_no_point_is_refused(shape):
    network, *_ = drawn()
    count = network.config.num_style_channels
    with pytest.raises(FaceganError, match=rf"expected \[N, 6, 5\], or of style space \[N, {count}\]"):
        network(torch.zeros(shape))
    with pytest.raises(FaceganError, match=rf"expected \[2, K, {count}\]"):
        network(torch.zeros(2, count), regions=Regions(torch.zeros(2, 1, 6, 5), torch.zeros(1, 1, 16, 16)))


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 7, 5), (2, 5, 5), (2, 6, 4)])
def test_a_point_is_made_of_all_styles_alone(shape):
    network, *_ = drawn()
    with pytest.raises(FaceganError, match=r"ws have shape .*; expected \[..., 6, 5\]"):
        network.style_space(torch.zeros(shape))
    count = network.config.num_style_channels
    assert network.style_space(torch.zeros(6, 5)).shape == (count,) and network.style_space(torch.zeros(0, 6, 5)).shape == (0, count)


def test_a_network_of_one_size_has_a_style_space():
    generator = Generator(StyleGAN2Config(resolution=4, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=8))
    assert generator.config.style_channels == {"b4.conv1": 8, "b4.torgb": 8}
    with torch.no_grad():
        ws = generator.mapping(torch.randn(2, 4))
        assert torch.equal(generator.synthesis(generator.synthesis.style_space(ws), "const"), generator.synthesis(ws, "const"))
