"""The modules that stand in for `torch_utils.ops`, against formulas of our own in float64."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
import stylegan_formulas as formulas
import torch
from torch.autograd import gradcheck, gradgradcheck

from facegan.compat.layers import modulated_conv2d
from facegan.compat.nvidia import bias_act as bias_act_module
from facegan.compat.nvidia import conv2d_gradfix, conv2d_resample, filtered_lrelu, fma, grid_sample_gradfix, upfirdn2d
from facegan.errors import FaceganError
from facegan.ops import no_weight_gradients

ACTS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
SIGNATURES = {  # what inspect.signature says of the projects' own functions
    bias_act_module.bias_act: "x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='cuda'",
    upfirdn2d.setup_filter: "f, device=device(type='cpu'), normalize=True, flip_filter=False, gain=1, separable=None",
    upfirdn2d.upfirdn2d: "x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl='cuda'",
    upfirdn2d.upsample2d: "x, f, up=2, padding=0, flip_filter=False, gain=1, impl='cuda'",
    upfirdn2d.downsample2d: "x, f, down=2, padding=0, flip_filter=False, gain=1, impl='cuda'",
    upfirdn2d.filter2d: "x, f, padding=0, flip_filter=False, gain=1, impl='cuda'",
    conv2d_resample.conv2d_resample: "x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False",
    conv2d_gradfix.conv2d: "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
    conv2d_gradfix.conv_transpose2d: "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
    conv2d_gradfix.no_weight_gradients: "disable=True",
    grid_sample_gradfix.grid_sample: "input, grid",
    fma.fma: "a, b, c",
    filtered_lrelu.filtered_lrelu: "x, fu=None, fd=None, b=None, up=1, down=1, padding=0, gain=1.4142135623730951, slope=0.2, "
    "clamp=None, flip_filter=False, impl='cuda'",
}


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_close(actual, expected, tolerance=1e-6):
    """Filters are float32 there and here; everything else is float64."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda f: f"{f.__module__.rpartition('.')[2]}.{f.__name__}")
def test_signatures_are_those_of_the_projects(function) -> None:
    shown = ", ".join(str(p.replace(annotation=p.empty)) for p in inspect.signature(function).parameters.values())
    assert shown == SIGNATURES[function]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("shape", "dim"), [((3, 5), 1), ((2, 5, 3, 4), 1), ((2, 3, 5), 2), ((5, 2), 0)])
def test_bias_act(act: str, shape, dim: int) -> None:
    x, b = normal(*shape), normal(5, seed=1)
    for bias, alpha, gain, clamp in itertools.product((None, b), (None, 0.1, -0.5), (None, 0.7, 0, -2), (None, -1, 0.4, 0)):
        y = bias_act_module.bias_act(x, bias, dim, act, alpha, gain, clamp)
        limit = None if clamp is not None and clamp < 0 else clamp  # a negative clamp is none
        assert_close(y, formulas.bias_act(x, bias, dim, act, alpha, gain, limit), 1e-12)


@pytest.mark.parametrize("act", ACTS)
def test_gradients_of_bias_act(act: str) -> None:
    x, b = normal(2, 3, 4).requires_grad_(), normal(3, seed=1).requires_grad_()
    for alpha, gain, clamp in ((None, None, None), (-0.5, 0.7, None), (0.1, 3, 1.3)):
        function = lambda x, b: bias_act_module.bias_act(x, b, 1, act, alpha, gain, clamp)  # noqa: B023, E731
        assert gradcheck(function, (x, b))
        assert gradgradcheck(function, (x, b))


def test_activation_functions_have_what_networks_read() -> None:
    x = normal(7)
    assert list(bias_act_module.activation_funcs) == list(ACTS)
    for index, (name, entry) in enumerate(bias_act_module.activation_funcs.items(), 1):
        assert entry.def_gain == pytest.approx(formulas.GAINS.get(name, 1))
        assert (entry.def_alpha, entry.cuda_idx) == (0.2 if name == "lrelu" else 0, index)
        assert entry["ref"] == {"linear": "", "swish": "x"}.get(name, "y")
        assert entry.has_2nd_grad == (name not in ("linear", "relu", "lrelu"))
        assert_close(entry.func(x, alpha=0.3), formulas.activation(x, name, 0.3), 1e-12)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bias_act_module.activation_funcs["relu"].nothing


def test_an_output_of_linear_may_be_added_to_in_place() -> None:
    """As NVIDIA's residual discriminator does."""
    x, z = normal(2, 3, 4, 4).requires_grad_(), normal(2, 3, 4, 4, seed=1).requires_grad_()
    y = bias_act_module.bias_act(x, normal(3, seed=2), gain=0.7)
    (g,) = torch.autograd.grad(y.add_(z.square()).square().sum(), z, create_graph=True)
    g.square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("f", "shape", "total"),
    [(None, (1, 1), 1), (2.0, (1, 1), 1), ([1, 3, 3, 1], (4, 4), 1), ([1] * 8, (8,), 1), ([[1, 2], [3, 4]], (2, 2), 1)],
)
def test_setup_filter_has_the_shapes_of_state_dicts(f, shape, total) -> None:
    made = upfirdn2d.setup_filter(f)
    assert made.shape == shape
    assert made.dtype == torch.float32
    assert float(made.sum()) == pytest.approx(total)
    with_gain = upfirdn2d.setup_filter(f, normalize=False, gain=4, flip_filter=True)
    taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    taps = taps[None] if taps.ndim == 0 else taps
    expected = taps.flip(0) * 2 if made.ndim == 1 else (torch.outer(taps, taps) if taps.ndim == 1 else taps).flip(0, 1) * 4
    assert torch.equal(with_gain, expected)


def test_setup_filter_is_separable_where_asked() -> None:
    assert upfirdn2d.setup_filter([1, 2, 1], separable=True).tolist() == [0.25, 0.5, 0.25]
    assert upfirdn2d.setup_filter([1] * 9, separable=False).shape == (9, 9)
    with pytest.raises(FaceganError, match="separable"):
        upfirdn2d.setup_filter([[1, 2], [3, 4]], separable=True)


FILTERS = (None, torch.tensor([0.1, 0.4, 0.3]), torch.tensor([[0.1, 0.4, -0.2], [0.3, 0.2, 0.7]]))


@pytest.mark.parametrize("f", FILTERS, ids=("none", "1d", "2d"))
@pytest.mark.parametrize("flip_filter", [False, True])
def test_upfirdn2d_takes_x_before_y(f, flip_filter: bool) -> None:
    x = normal(2, 3, 5, 7)
    for up, down, padding in itertools.product((1, 2, (2, 1), [1, 3]), (1, 2, (1, 2)), (2, (1, 3), [3, 1, 2, 4], (3, -1, 4, -2))):
        y = upfirdn2d.upfirdn2d(x, f, up, down, padding, flip_filter, 3)
        four = formulas_padding(padding)
        assert_close(y, formulas.upfirdn2d(x, f, pair(up), pair(down), four, flip_filter, 3))


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def formulas_padding(padding):
    if isinstance(padding, int):
        return (padding,) * 4
    return (padding[0], padding[0], padding[1], padding[1]) if len(padding) == 2 else tuple(padding)


@pytest.mark.parametrize("f", FILTERS[1:], ids=("1d", "2d"))
@pytest.mark.parametrize("flip_filter", [False, True])
def test_resampling_by_filters(f, flip_filter: bool) -> None:
    x = normal(2, 3, 6, 8)
    for factor, padding in itertools.product((2, 3, (2, 1), [1, 2]), (0, 1, -1, [2, 1], [2, 0, 1, -1])):
        four, given = formulas_padding(padding), pair(factor)
        y = upfirdn2d.upsample2d(x, f, factor, padding, flip_filter, gain=2)
        pads = formulas.upsampling_padding(f, given, four)
        assert_close(y, formulas.upfirdn2d(x, f, given, padding=pads, flip_filter=flip_filter, gain=2 * given[0] * given[1]))
        y = upfirdn2d.downsample2d(x, f, factor, padding, flip_filter, gain=2)
        pads = formulas.downsampling_padding(f, given, four)
        assert_close(y, formulas.upfirdn2d(x, f, down=given, padding=pads, flip_filter=flip_filter, gain=2))
    y = upfirdn2d.filter2d(x, f, [2, 1, 0, 1], flip_filter, 2)
    pads = formulas.downsampling_padding(f, (1, 1), (2, 1, 0, 1))
    assert_close(y, formulas.upfirdn2d(x, f, padding=pads, flip_filter=flip_filter, gain=2))


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_resample(up: int, down: int, kernel: int, groups: int) -> None:
    x, w = normal(2, 4, 6, 7), normal(6, 4 // groups, kernel, kernel, seed=1)
    filters = (torch.tensor([0.1, 0.4, 0.3, 0.2]), torch.tensor([[0.1, 0.4], [0.3, 0.2]]), None)
    for f, padding, flip_weight, flip_filter in itertools.product(filters, (0, 1, [1, 2], [2, 1, 0, 3]), (True, False), (True, False)):
        y = conv2d_resample.conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter)
        expected = formulas.conv2d_resample(x, w, f, up, down, formulas_padding(padding), groups, flip_weight, flip_filter)
        assert_close(y, expected)


def test_gradients_of_conv2d_resample() -> None:
    x, w = normal(2, 2, 4, 3).requires_grad_(), normal(4, 1, 3, 3, seed=1).requires_grad_()
    f = torch.tensor([0.25, 0.5, 0.25])
    for up, down, flip_weight in ((2, 1, False), (1, 2, True), (2, 2, False)):
        function = lambda x, w: conv2d_resample.conv2d_resample(x, w, f, up, down, [1, 2, 1, 1], 2, flip_weight)  # noqa: B023, E731
        assert gradcheck(function, (x, w), atol=1e-6)
        assert gradgradcheck(function, (x, w), atol=1e-6)


@pytest.mark.parametrize("options", [{}, dict(stride=2, padding=1), dict(stride=(2, 1), padding=[1, 2], dilation=2), dict(groups=2)])
def test_convolutions(options) -> None:
    x, b = normal(2, 4, 7, 6), normal(4, seed=2)
    w = normal(4, 4 // options.get("groups", 1), 3, 3, seed=1)
    assert_close(conv2d_gradfix.conv2d(x, w, b, **options), torch.nn.functional.conv2d(x, w, b, **options), 1e-12)
    transposed = conv2d_gradfix.conv_transpose2d(x, w, None, **options)
    assert_close(transposed, torch.nn.functional.conv_transpose2d(x, w, **options), 1e-12)
    if options.get("stride") == 2:
        given = options | dict(output_padding=1)
        expected = torch.nn.functional.conv_transpose2d(x, w, **given)
        assert_close(conv2d_gradfix.conv_transpose2d(x, w, **given), expected, 1e-12)


@pytest.mark.parametrize(("enabled", "disable"), [(True, True), (True, False), (False, True)])
def test_weight_gradients_are_left_out_once_a_training_loop_enables_it(monkeypatch, enabled: bool, disable: bool) -> None:
    monkeypatch.setattr(conv2d_gradfix, "enabled", enabled)
    x, w = normal(1, 2, 4, 4).requires_grad_(), normal(2, 2, 3, 3, seed=1).requires_grad_()
    y = conv2d_gradfix.conv2d(x, w)
    with conv2d_gradfix.no_weight_gradients(disable):
        assert conv2d_gradfix.weight_gradients_disabled is disable
        given = torch.autograd.grad(y.square().sum(), [x, w], allow_unused=True)
    assert given[0] is not None
    assert (given[1] is None) == (enabled and disable)
    assert not conv2d_gradfix.weight_gradients_disabled
    with no_weight_gradients():
        pass


def test_grid_sample_differentiates_twice() -> None:
    x, grid = normal(1, 2, 4, 5).requires_grad_(), (normal(1, 3, 3, 2, seed=1) * 0.4).requires_grad_()
    assert gradgradcheck(lambda x: grid_sample_gradfix.grid_sample(x, grid.detach()), (x,))
    corner = grid_sample_gradfix.grid_sample(x, torch.tensor([[[[-0.8, -0.75]]]], dtype=torch.float64))  # the first pixel's centre
    assert_close(corner.flatten(), x[0, :, 0, 0])


def test_fma_broadcasts() -> None:
    a, b, c = normal(2, 3, 1), normal(1, 3, 4, seed=1), normal(4, seed=2)
    assert_close(fma.fma(a, b, c), a * b + c, 1e-14)


def test_filtered_lrelu() -> None:
    x, b, fu, fd = normal(2, 3, 6, 5), normal(3, seed=1), torch.tensor([0.2, 0.5, 0.3, 0.1]), torch.tensor([[0.3, 0.4], [0.2, 0.6]])
    for up, down, padding, clamp, flip in itertools.product((1, 2), (1, 2), (3, [4, 3, 2, 5]), (None, 0.5), (False, True)):
        y = filtered_lrelu.filtered_lrelu(x, fu, fd, b, up, down, padding, 1.2, 0.1, clamp, flip)
        expected = formulas.filtered_lrelu(x, fu, fd, b, up, down, formulas_padding(padding), 1.2, 0.1, clamp, flip)
        assert_close(y, expected)


def test_arguments_of_other_shapes_are_refused_in_a_sentence() -> None:
    x = normal(1, 1, 4, 4)
    with pytest.raises(FaceganError, match=r"padding is \(1, 2, 3\); expected 1 or 2 or 4 whole numbers, of x before y"):
        upfirdn2d.upfirdn2d(x, None, padding=(1, 2, 3))
    with pytest.raises(FaceganError, match="a factor is"):
        upfirdn2d.upfirdn2d(x, None, up=[1, 2, 3])


def test_whole_numbers_of_any_type_and_single_maps() -> None:
    x, w = normal(2, 4, 7, 6), normal(3, 4, 3, 3, seed=1)
    assert_close(conv2d_gradfix.conv2d(x, w, stride=np.int64(2)), torch.nn.functional.conv2d(x, w, stride=2), 1e-12)
    assert_close(conv2d_gradfix.conv2d(x[0], w), torch.nn.functional.conv2d(x[0], w), 1e-12)
    assert_close(upfirdn2d.upsample2d(x, FILTERS[1], np.int64(2)), upfirdn2d.upsample2d(x, FILTERS[1], 2), 1e-12)


def test_impl_ref_is_the_reference_backend(monkeypatch) -> None:
    from facegan import backend

    seen = []
    monkeypatch.setattr(backend, "select", lambda op, x: seen.append((op, backend.requested_backend())) or "reference")
    bias_act_module.bias_act(normal(2, 3), impl="ref")
    upfirdn2d.upfirdn2d(normal(1, 1, 4, 4), None, impl="cuda")
    assert seen == [("bias_act", "reference"), ("upfirdn2d", "auto")]
    with pytest.raises(FaceganError, match="impl is 'fast'; expected one of ref, cuda"):
        bias_act_module.bias_act(normal(2, 3), impl="fast")


def test_they_compile_as_one_graph() -> None:
    x, w, s, f = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3), torch.randn(2, 4), upfirdn2d.setup_filter([1, 3, 3, 1])

    def network(x, w, s):
        y = conv2d_resample.conv2d_resample(x, w, f, up=2, padding=1, flip_weight=False)
        y = upfirdn2d.downsample2d(bias_act_module.bias_act(y, act="lrelu", clamp=256), f)
        y = y.sum() + modulated_conv2d(x, w, s, up=2, padding=1, resample_filter=f, flip_weight=False).sum()
        return y + filtered_lrelu.filtered_lrelu(x, f, f, None, 2, 2, 3).sum()

    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x, w, s), network(x, w, s), rtol=1e-5)
