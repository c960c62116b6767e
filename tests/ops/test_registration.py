"""The registered operators of every backend: one schema, gradients and fake kernels by opcheck, nothing lost to empty tensors."""

from __future__ import annotations

import facegan_kernels
import pytest
import torch

from facegan import backend
from facegan.ops import adain, adain_affine, bias_act, filtered_lrelu, modulated_conv2d, registration, setup_filter, upsample2d
from facegan.ops.registration import NAMESPACES, operators

BACKENDS = ["reference", "native", "triton"]


@pytest.fixture(params=BACKENDS)
def ops(request):
    for op in backend.ops():
        reason = backend.unavailable(op, request.param, "cpu")
        if reason is not None:
            pytest.skip(reason)
    return operators(request.param)


@pytest.mark.parametrize("name", registration._definitions)
def test_one_schema_on_every_backend(ops, name):
    """The compiled library brings its own (csrc/ops.cpp)."""
    schemas = [str(getattr(of, name).overload._schema) for of in (ops, operators("reference"))]
    prefixes = [f"{NAMESPACES[of.backend]}::" for of in (ops, operators("reference"))]
    found, expected = (schema.removeprefix(prefix) for schema, prefix in zip(schemas, prefixes, strict=True))
    assert found == expected


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def test_opcheck(ops, memory_format):
    """With inputs that require gradients."""

    def draw(*shape):
        x = torch.randn(shape)
        return (x.contiguous(memory_format=memory_format) if len(shape) == 4 else x).requires_grad_()

    x, y, s, b = draw(2, 3, 4, 5), draw(2, 3, 4, 5), draw(2, 3), draw(3)
    act = ("lrelu", 0.2, 1.0, 0.5)
    calls = {
        "bias_act": (x, b, 1, *act),
        "bias_act_backward": (x, y, 1, True, *act),
        "upfirdn2d": (x, setup_filter(), (2, 1), (1, 2), (2, 1, 2, 1), False, 1.5),
        "filtered_lrelu": (x, setup_filter(), setup_filter(), b, 2, 2, (2, 3, 2, 3), 1.4, 0.2, 0.5, False),
        "filtered_lrelu_slope": (x, y, setup_filter(), setup_filter(), b, 2, 2, (2, 3, 2, 3), 1.4, 0.2, 0.5, False, False),
        "adain": (x, y, 0.5, None, 1e-5),
        "adain_affine": (x, s, s, 1e-5),
        "modulate": (x, s),
        "modulate_backward": (y, x, s),
        "modulated_epilogue": (x, s, None, b, setup_filter(), (2, 1, 2, 1), *act),
        "modulated_epilogue_backward": (x, y, s, None, 0, *act),
        "regional_epilogue": (x, draw(2, 2, 3), draw(1, 1, 4, 5), None, b, None, (0, 0, 0, 0), y, draw(2, 1, 4, 5), *act),
        "pointwise": (x, draw(2, 4, 3)),
    }
    for name, arguments in calls.items():
        if ops.backend == "triton" and name not in ("bias_act", "modulate_backward"):
            continue  # registered by the same lines; interpreted, the others take minutes
        torch.library.opcheck(getattr(ops, name).overload, arguments)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)], ids=str)
def test_both_orders_of_gradients_of_nothing(ops, shape):
    """Public ops, whose gradients of what has elements are zeros."""
    n, c, _, _ = shape
    f = setup_filter()
    layers = {
        "bias_act": lambda x, s, b, w: bias_act(x, b, act="tanh"),
        "upsample2d": lambda x, s, b, w: upsample2d(x, f, padding=2),
        "filtered_lrelu": lambda x, s, b, w: filtered_lrelu(x, f, f, b, 2, 2, 6),
        "adain": lambda x, s, b, w: adain(x, 2 * x),
        "adain_affine": lambda x, s, b, w: adain_affine(x, s, s),
        "modulated_conv2d": lambda x, s, b, w: modulated_conv2d(x, w, s, padding=1, bias=torch.zeros(5), act="lrelu"),
    }
    for name, layer in layers.items():
        inputs = [torch.randn(size, requires_grad=True) for size in (shape, (n, c), (c,), (5, c, 3, 3))]
        with backend.use_backend(ops.backend):
            if name == "modulated_conv2d" and 0 in shape[1:]:
                continue  # PyTorch's convolution takes no empty maps or channels
            y = layer(*inputs)
            first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True, allow_unused=True, materialize_grads=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs, allow_unused=True, materialize_grads=True)
        for gradient in (*first, *second):
            assert not gradient.any(), name


def test_compiled_graphs_show_the_backend(ops):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    with backend.use_backend(ops.backend):
        torch.compile(lambda x, b: bias_act(x, b), fullgraph=True, backend=keep)(torch.randn(2, 3, 4, 4), torch.randn(3))
    names = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert ops.backend == "reference" or names == [f"{NAMESPACES[ops.backend]}.bias_act"], names
    torch._dynamo.reset()


@pytest.mark.parametrize("name,operator", [key for key, module in facegan_kernels.KERNELS.items() if module != facegan_kernels.COMPILED])
def test_a_kernel_in_python_is_a_function_of_its_name_in_a_file_of_its_op(name, operator):
    module = facegan_kernels.KERNELS[name, operator]
    assert module.split(".")[2] == registration._definitions[operator].op.removesuffix("_affine")
    imported = pytest.importorskip(module, exc_type=ImportError)  # without Triton, or without the compiled library
    assert imported.__dict__[operator].__module__ == module
