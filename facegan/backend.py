"""Which backend serves which op, and why another does not.

`reference` is plain PyTorch and always there; `triton` and `native` come from the optional package `facegan_kernels`
(its docstring states the protocol). `auto` takes the first of `PREFERENCE` for the tensor's device that has every kernel of
the op. A backend asked for by name, through `FACEGAN_BACKEND` or `use_backend`, never falls back: it serves or it raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

from facegan.errors import FaceganError

BACKENDS = ("reference", "triton", "native")
# What `auto` tries, by device; an interpreted Triton kernel on the CPU is for tests and never chosen by itself.
PREFERENCE = {"cuda": ("triton", "native", "reference"), "cpu": ("native", "reference")}
ENVIRONMENT_VARIABLE = "FACEGAN_BACKEND"

# Elements of one sample of x below which `auto` stays with PyTorch on a CPU: there a layer's backward by operators that can be
# differentiated once more costs more calls than it saves. Measured at batch 16 (2^16 elements, one thread) and counted per sample, so
# that a part of a batch is served like the whole of it; other batches were not measured. Every other op is faster at any size.
SMALL = {"modulated_conv2d": 1 << 12}

Kernel = Callable[..., Any]
Constant = TypeVar("Constant", bound=Callable[..., Any])
_transforms_active = torch._C._are_functorch_transforms_active


class BackendUnavailable(FaceganError):
    """A backend was asked for by name and cannot serve; the message says why."""


_operators: dict[str, tuple[str, ...]] = {}  # op -> registered operators it needs, forward and backward
_references: dict[str, Kernel] = {}  # registered operator -> its PyTorch form
_optional: set[str] = set()  # operators that the PyTorch form serves where a backend has no kernel
_found: dict[tuple[str, str, str], Kernel | str] = {}  # (operator, backend, device) -> kernel or reason
_selected: dict[tuple[str, str, str], str] = {}  # (op, requested, device) -> backend
_requested: ContextVar[str | None] = ContextVar("facegan_backend", default=None)


def _checked(name: str, origin: str) -> str:
    if name != "auto" and name not in BACKENDS:
        raise FaceganError(f"{origin} is {name!r}; expected one of auto, {', '.join(BACKENDS)}.")
    return name


_default = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"


def register(op: str, operator: str, reference: Kernel, optional: bool = False) -> None:
    """Declares a registered operator that `op` is made of, with its PyTorch form."""
    if optional:
        _optional.add(operator)
    _operators[op] = (*_operators.get(op, ()), operator)
    _references[operator] = reference


def compiled(operator: str) -> bool:
    """Whether the compiled library implements a registered operator itself, in the namespace `facegan`."""
    try:
        import facegan_kernels
    except ImportError:
        return False
    return facegan_kernels.compiled(operator)


def kernel_exists(operator: str, backend: str) -> bool:
    """Whether `backend` has a kernel of an operator, for one device or another."""
    try:
        import facegan_kernels
    except ImportError:
        return False
    return (backend, operator) in facegan_kernels.KERNELS


def ops() -> tuple[str, ...]:
    """The names of the dispatched ops, those of `facegan.ops` once it is imported."""
    return tuple(_operators)


def kernel(operator: str, backend: str, device_type: str) -> Kernel:
    """The callable behind one registered operator; raises BackendUnavailable with the reason."""
    found = _find(operator, backend, device_type)
    if isinstance(found, str) and operator in _optional:
        return _references[operator]
    if isinstance(found, str):
        raise BackendUnavailable(f"Backend {backend!r} cannot serve {operator} on {device_type}: {found}.")
    return found


def _find(operator: str, backend: str, device_type: str) -> Kernel | str:
    """The kernel or the reason why there is none, looked up once."""
    found = _found.get((operator, backend, device_type))
    if found is None:
        found = _found[operator, backend, device_type] = _ask(operator, backend, device_type)
    return found


def _ask(operator: str, backend: str, device_type: str) -> Kernel | str:
    if backend == "reference":
        return _references[operator]
    try:
        import facegan_kernels
    except ImportError as error:
        return f"the package facegan_kernels is not installed ({error})"
    return facegan_kernels.find(operator, backend, device_type)


def unavailable(op: str, backend: str, device_type: str) -> str | None:
    """None when `backend` has every kernel of `op` for `device_type`, else the reason why not."""
    needed = (operator for operator in _operators[op] if operator not in _optional)
    found = (_find(operator, backend, device_type) for operator in needed)
    return next((reason for reason in found if isinstance(reason, str)), None)


def select(op: str, x: torch.Tensor) -> str:
    """The backend that serves `op` on `x` now: the requested one, or for `auto` the first that can and pays."""
    if torch.compiler.is_compiling():
        return _serving(op, x.device.type)
    requested = _requested.get() or _default
    if _transforms_active() or forward_ad._current_level >= 0:  # PyTorch's own graph knows both
        if requested == "auto":
            return "reference"
        if requested != "reference" and _transforms_active():
            raise untransformable(op, requested)
    device_type = "cuda" if x.is_cuda else x.device.type
    if requested == "auto" and device_type == "cpu" and op in SMALL and x.numel() < SMALL[op] * x.shape[0]:
        return "reference"
    return _selected.get((op, requested, device_type)) or _serving(op, device_type)


def constant_in_graphs(function: Constant) -> Constant:
    """`torch.compiler.assume_constant_result` without importing the compiler, which takes seconds: the mark that Dynamo looks for."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_in_graphs  # compiled code keeps the backend it was traced with
def _serving(op: str, device_type: str) -> str:
    requested = _requested.get() or _default
    selected = _selected.get((op, requested, device_type))
    if selected is None:
        selected = _selected[op, requested, device_type] = _select(op, requested, device_type)
    return selected


def untransformable(op: str, backend: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"{op}: the kernels of backend {backend!r} know neither torch.func's transforms (grad, vmap, jvp) nor forward-mode "
        "derivatives; ask for them inside use_backend('reference')."
    )


def _select(op: str, requested: str, device_type: str) -> str:
    if _checked(requested, ENVIRONMENT_VARIABLE) == "auto":
        order = PREFERENCE.get(device_type, ("reference",))
        return next(name for name in order if unavailable(op, name, device_type) is None)
    reason = unavailable(op, requested, device_type)
    if reason is not None:
        raise BackendUnavailable(f"Backend {requested!r} cannot serve {op} on {device_type}: {reason}; ask for 'auto' to fall back.")
    return requested


def requested_backend() -> str:
    """What has been asked for: "auto" or the name of a backend."""
    return _requested.get() or _default


def set_backend(name: str) -> None:
    """Asks for a backend ("auto", "reference", "triton", "native") in this context and those started from it."""
    _requested.set(_checked(name, "backend"))


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """`with use_backend("reference"):` asks for a backend inside the block only.

    The backward pass of what ran inside uses the same backend, also after the block has ended.
    """
    token = _requested.set(_checked(name, "backend"))
    try:
        yield
    finally:
        _requested.reset(token)
