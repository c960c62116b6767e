"""What only a CUDA GPU can show: graphs, streams, tensors beyond 2^31 elements, Inductor."""

from __future__ import annotations

import pytest
import torch

from facegan import backend
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.ops import adain, bias_act, modulated_conv2d, setup_filter, upfirdn2d

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


@pytest.fixture(params=["triton", "native"])
def served(request):
    reasons = [backend.unavailable(op, request.param, "cuda") for op in backend.ops()]
    if any(reasons):
        pytest.skip(str(next(filter(None, reasons))))
    with backend.use_backend(request.param):
        yield request.param


def test_a_generator_step_replays_from_a_graph(served):
    generator = Generator(StyleGAN2Config(resolution=32, z_dim=64, w_dim=64, channel_base=1024, channel_max=64)).cuda()
    z, cotangent = torch.randn(4, 64, device="cuda"), torch.randn(4, 3, 32, 32, device="cuda")

    def step():
        generator.zero_grad(set_to_none=False)
        generator(z, noise_mode="const").backward(cotangent)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    z.copy_(torch.randn_like(z))
    graph.replay()
    replayed = [p.grad.clone() for p in generator.parameters() if p.grad is not None]
    step()
    eager = [p.grad for p in generator.parameters() if p.grad is not None]
    torch.testing.assert_close(replayed, eager, rtol=1e-3, atol=1e-3)


def test_kernels_run_on_the_current_stream(served):
    x = torch.zeros(64, 64, 128, 128, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # a kernel on another stream would read x before it is filled
        x.fill_(1.0)
        y = bias_act(x, torch.ones(64, device="cuda"), act="linear")
    stream.synchronize()
    assert y.eq(2).all()


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_more_than_two_to_the_31_elements(served, memory_format):
    free, _ = torch.cuda.mem_get_info()
    if free < 24 << 30:
        pytest.skip(f"needs 24 GiB of free GPU memory, not {free >> 30}")
    shape = (9, 64, 2048, 2048)  # 2.4e9
    x = torch.empty(shape, dtype=torch.bfloat16, device="cuda", memory_format=memory_format)
    x.normal_()
    last = x[-1:].clone(memory_format=torch.preserve_format)  # on its own it is small: what it gives is what the whole must give
    b, f = torch.randn(64, device="cuda", dtype=torch.bfloat16), setup_filter(device="cuda")
    for op in (lambda t: bias_act(t, b), lambda t: upfirdn2d(t, f, down=2, padding=1), lambda t: adain(t, t.roll(1, 1))):
        whole, alone = op(x), op(last)
        torch.testing.assert_close(whole[-1:], alone, rtol=2e-2, atol=2e-2)
        del whole, alone


@pytest.mark.parametrize("up", [1, 2])
def test_inductor_compiles_a_layer_and_a_merge_whole(served, up):
    x = torch.randn(2, 32, 16, 16, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(32, 32, 3, 3, device="cuda", requires_grad=True)
    styles, b = torch.randn(2, 32, device="cuda", requires_grad=True), torch.randn(32, device="cuda", requires_grad=True)

    def function(x, weight, styles, b):
        y = modulated_conv2d(x, weight, styles, up=up, padding=1, bias=b, act="lrelu")
        return adain(y, y.flip(0), 0.5)

    compiled = torch.compile(function, fullgraph=True)
    inputs = (x, weight, styles, b)
    y = function(*inputs)
    cotangent = torch.randn_like(y)
    expected = torch.autograd.grad(y, inputs, cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(*inputs), inputs, cotangent), expected, rtol=1e-2, atol=1e-2)
