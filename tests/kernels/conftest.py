"""Shared by the tests of the kernels: every test runs on each backend that this machine has.

Without a CUDA GPU the Triton kernels run under Triton's interpreter, on tensors of the CPU (tests/conftest.py asks for it).
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from facegan import backend

GPU = torch.cuda.is_available()
TARGETS = [("triton", "cuda" if GPU else "cpu"), ("native", "cpu"), ("native", "cuda")]

# The interpreter takes milliseconds for what a GPU does in microseconds; the same examples in every run.
settings.register_profile(
    "kernels", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def guarded(one_thread: None, poisoned_empty: None) -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def emulated() -> Any:
    """The CUDA operators of csrc/cuda as a CPU runs them (emulation/), on tensors of the CPU and with checks of every access."""
    build = runpy.run_path(str(Path(__file__).parent / "emulation" / "build.py"))["build"]
    torch.ops.load_library(build())
    return torch.ops.facegan_emulated


@pytest.fixture(params=[pytest.param(pair, id="-".join(pair), marks=[pytest.mark.gpu] if pair[1] == "cuda" else []) for pair in TARGETS])
def target(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(backend, device)"""
    if request.param[1] == "cuda" and not GPU:
        pytest.skip("no CUDA GPU")
    return request.param


@pytest.fixture
def device(target: tuple[str, str]) -> str:
    return target[1]


@pytest.fixture
def kernel(target: tuple[str, str]) -> Callable[[str], Callable[..., Any]]:
    """kernel("bias_act"): the target's kernel behind one registered operator; skips where there is none."""

    def kernel(operator: str) -> Callable[..., Any]:
        try:
            return backend.kernel(operator, *target)
        except backend.BackendUnavailable as reason:
            pytest.skip(str(reason))

    return kernel


@pytest.fixture
def forced(target: tuple[str, str]) -> Iterator[Callable[[str], None]]:
    """forced("bias_act"): skips where the target cannot serve this public op; all ops called afterwards run on the target."""
    with backend.use_backend(target[0]):

        def forced(op: str) -> None:
            reason = backend.unavailable(op, *target)
            if reason is not None:
                pytest.skip(f"{target[0]} cannot serve {op} on {target[1]}: {reason}")

        yield forced


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=lambda dtype: str(dtype)[6:])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def memory_format(request: pytest.FixtureRequest) -> torch.memory_format:
    return request.param


@pytest.fixture
def draw(device: str) -> Callable[..., torch.Tensor]:
    """draw(2, 3, 5, 7, dtype=torch.bfloat16, memory_format=torch.channels_last): standard normal, on the target's device."""

    def draw(*shape: int, dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
        return torch.randn(shape).to(device=device, dtype=dtype).contiguous(memory_format=memory_format)

    return draw


@pytest.fixture
def close(tolerance: Callable[[torch.dtype], dict[str, float]]) -> Callable[..., None]:
    """close(actual, expected): agrees with a float64 expectation as well as actual's dtype allows (or `dtype`, where rounding came
    earlier); shapes are equal."""

    def close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        torch.testing.assert_close(actual.detach().double().cpu(), expected.detach().double().cpu(), **tolerance(dtype or actual.dtype))

    return close
