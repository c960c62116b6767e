"""The epilogue whose factors vary by region and whose result is weighted and added to others, on every backend, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan.ops.registration import operators

UNPADDED = [0, 0, 0, 0]
OPTIONS = [("lrelu", 0.2, 1.3, 1.0), ("relu", 0.2, -0.8, 0.7), ("linear", 0.2, 1.1, None)]
# K, batch of masks, noise, whether there are d, b, what it is added to, a weight and its batch
PRESENT = [
    (1, 1, "one", True, True, False, 0),
    (2, 2, "each", True, False, True, 1),
    (3, 1, None, True, True, False, 2),
    (0, 0, "each", True, True, True, 1),
    (0, 0, None, False, False, True, 0),
    (1, 2, None, True, True, True, 2),
    (5, 1, "one", True, True, False, 0),
]
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 67, 3, 2), (3, 130, 1, 1), (2, 5, 13, 11), (2, 16, 8, 8), (1, 2, 17, 21)]
EMPTY = [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)]


def pixel_by_pixel(x, d, masks, noise, b, onto, weight, act, alpha, gain, clamp):
    """One pixel of one sample after the other: the styles' shares are 1 - sum m and m."""
    n, c, height, width = x.shape
    y = torch.empty_like(x)
    for i in range(n):
        of = {name: t if t is None else t[i if t.shape[0] > 1 else 0] for name, t in [("m", masks), ("noise", noise), ("weight", weight)]}
        for row in range(height):
            for column in range(width):
                v = x[i, :, row, column]
                shares = torch.ones(1, dtype=x.dtype)
                if of["m"] is not None:
                    m = of["m"][:, row, column]
                    shares = torch.cat([1 - m.sum()[None], m])
                v = v if d is None else v * (shares @ d[i])
                v = v if noise is None else v + of["noise"][0, row, column]
                v = v if b is None else v + b
                v = {"linear": v, "relu": v.clamp(min=0), "lrelu": torch.where(v < 0, alpha * v, v)}[act] * gain
                v = v if clamp is None else v.clamp(-clamp, clamp)
                v = v if weight is None else v * of["weight"][0, row, column]
                y[i, :, row, column] = v if onto is None else v + onto[i, :, row, column]
    return y


@pytest.fixture
def operands(draw, device):
    """operands(shape, dtype, format, present) -> x, d, masks, noise, b, onto, weight."""

    def operands(shape, dtype, memory_format, present):
        (n, c, height, width), (count, mask_batch, noise, with_d, with_b, with_onto, weight_batch) = shape, present
        wide = torch.float64 if dtype == torch.float64 else torch.float32

        def share(batch, channels):
            return torch.rand(batch, channels, height, width, dtype=wide).to(device)

        return (
            draw(*shape, dtype=dtype, memory_format=memory_format),
            (0.5 + torch.rand(n, 1 + count, c, dtype=wide)).to(device) if with_d else None,
            share(1 if mask_batch == 1 else n, count) if mask_batch else None,
            draw(1 if noise == "one" else n, 1, height, width, dtype=dtype) if noise else None,
            draw(c, dtype=dtype) if with_b else None,
            draw(*shape, dtype=dtype, memory_format=memory_format) if with_onto else None,
            share(1 if weight_batch == 1 else n, 1) if weight_batch else None,
        )

    return operands


def run(kernel, x, d, masks, noise, b, onto, weight, options, f=None, padding=UNPADDED):
    return kernel("regional_epilogue")(x, d, masks, noise, b, f, padding, onto, weight, *options)


def expected_of(given, options):
    return pixel_by_pixel(*(None if t is None else t.double().cpu() for t in given), *options)


@pytest.mark.parametrize("index", range(len(PRESENT)))
def test_values(kernel, operands, close, index, dtype, memory_format):
    options, given = OPTIONS[index % len(OPTIONS)], operands((2, 5, 3, 7), dtype, memory_format, PRESENT[index])
    copies = [None if t is None else t.clone() for t in given]
    y = run(kernel, *given, options)
    assert y.dtype == dtype and y.stride() == given[0].stride()
    close(y, expected_of(given, options))
    for before, after in zip(copies, given, strict=True):
        assert before is None or torch.equal(before, after)


@pytest.mark.parametrize("present", [PRESENT[1], PRESENT[3]], ids=str)
@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=str)
def test_shapes(kernel, operands, close, shape, present, memory_format):
    given = operands(shape, torch.float32, memory_format, present)
    y = run(kernel, *given, OPTIONS[0])
    assert y.shape == shape
    close(y, expected_of(given, OPTIONS[0]))


@pytest.mark.parametrize("taps,padding", [((1, 3, 3, 1), [2, 1, 2, 1]), ((1, 2, 1), [1, -1, 0, 2])])
@pytest.mark.parametrize("present", PRESENT, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_with_a_filter(kernel, operands, close, draw, taps, padding, present, dtype, memory_format):
    """Of maps of one sample's size before the filter, of another one after it; channels that fill vectors and some that do not."""
    for channels, size in ((5, (9, 8)), (16, (13, 16))):
        out = [side + padding[2 * i] + padding[2 * i + 1] - len(taps) + 1 for i, side in enumerate(size)]
        _, *rest = operands((2, channels, *out), dtype, memory_format, present)
        x = draw(2, channels, *size, dtype=dtype, memory_format=memory_format)
        f = torch.tensor(taps, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=x.device) / sum(taps)
        y = run(kernel, x, *rest, OPTIONS[0], f, padding)
        assert y.is_contiguous(memory_format=memory_format)
        two_axes = f.double().cpu()[:, None] * f.double().cpu()  # symmetric, so that convolution is correlation
        padded = F.pad(x.double().cpu(), (padding[2], padding[3], padding[0], padding[1]))
        filtered = F.conv2d(padded, two_axes.expand(channels, 1, -1, -1), groups=channels)
        close(y, expected_of((filtered, *rest), OPTIONS[0]))


def test_a_filter_of_any_shape(kernel, operands, close, draw, memory_format):
    """[KH, KW]."""
    _, *rest = operands((2, 3, 7, 6), torch.float32, memory_format, PRESENT[1])
    x, f = draw(2, 3, 8, 8, memory_format=memory_format), draw(2, 3)
    y = run(kernel, x, *rest, OPTIONS[0], f)
    taps = f.double().cpu().flip(0, 1).expand(3, 1, 2, 3)
    close(y, expected_of((F.conv2d(x.double().cpu(), taps, groups=3), *rest), OPTIONS[0]))


def test_other_strides(kernel, operands, close):
    """Gaps, and arguments whose formats differ: results follow the first."""
    x, d, masks, noise, b, onto, weight = operands((2, 5, 6, 14), torch.float32, torch.contiguous_format, PRESENT[1])
    x, masks, noise, weight = x[..., ::2], masks[..., ::2], noise[..., 1::2], weight[..., ::2]
    onto, d = onto.contiguous(memory_format=torch.channels_last)[..., ::2], d.transpose(1, 2).contiguous().transpose(1, 2)
    given = x, d, masks, noise, b, onto, weight
    y = run(kernel, *given, OPTIONS[0])
    assert y.is_contiguous()
    close(y, expected_of(given, OPTIONS[0]))


@pytest.mark.parametrize("present", [(2, 1, "one", True, True, False, 0), (3, 2, "one", True, True, False, 0)])
@pytest.mark.parametrize("filtered", [False, True])
def test_masks_of_zeros_are_the_plain_epilogue(kernel, operands, memory_format, present, filtered):
    """To the bit: s + 0 t is s."""
    x, d, masks, noise, b, _, _ = operands((2, 8, 8, 8), torch.float32, memory_format, present)
    f, padding = (torch.tensor([1.0, 3, 3, 1], device=x.device) / 8, [2, 1, 2, 1]) if filtered else (None, UNPADDED)
    y = run(kernel, x, d, torch.zeros_like(masks), noise, b, None, None, OPTIONS[0], f, padding)
    assert torch.equal(y, kernel("modulated_epilogue")(x, d[:, 0], noise, b, f, padding, *OPTIONS[0]))


def test_not_a_number_stays(kernel, operands):
    given = operands((1, 2, 2, 2), torch.float32, torch.contiguous_format, PRESENT[0])
    given[0][0, 1, 0, 1] = float("nan")
    for act in ("linear", "relu", "lrelu"):
        y = run(kernel, *given, (act, 0.2, 1.0, 0.5))
        assert torch.equal(y.isnan(), given[0].isnan())


@pytest.mark.parametrize("present", PRESENT, ids=str)
@pytest.mark.parametrize("filtered", [False, True])
def test_gradients_of_both_orders(target, operands, forced, present, filtered):
    """Of the registered operator, to every tensor that it has, masks and weights too."""
    forced("modulated_conv2d")
    given = operands((2, 2, 3, 2), torch.float64, torch.contiguous_format, present)
    f, padding = (
        (torch.tensor([0.3, 0.7, 0.4], dtype=torch.float64, device=given[0].device), (1, 1, 2, 0)) if filtered else (None, (0,) * 4)
    )
    wanted = [t.requires_grad_() for t in given if t is not None]
    op = operators(target[0]).regional_epilogue

    def function(*leaves):
        left = iter(leaves)
        x, d, masks, noise, b, onto, weight = (None if t is None else next(left) for t in given)
        return op(x, d, masks, noise, b, f, padding, onto, weight, "lrelu", 0.2, 1.2, None)

    assert torch.autograd.gradcheck(function, wanted, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, wanted, fast_mode=True)
    with_graph = function(*wanted)
    with torch.no_grad():
        torch.testing.assert_close(function(*wanted), with_graph.detach())


def test_float16_on_a_cpu_is_computed_in_float32(target, kernel):
    if target != ("native", "cpu"):
        pytest.skip("the others compute in float32 as they read")
    x, d, masks = torch.randn(2, 3, 4, 4).half(), torch.rand(2, 2, 3), torch.rand(1, 1, 4, 4)
    y = run(kernel, x, d, masks, None, None, None, None, OPTIONS[0])
    torch.testing.assert_close(y.double(), expected_of((x, d, masks, None, None, None, None), OPTIONS[0]), rtol=6e-4, atol=1e-4)
