"""How every op enters `torch.library`: schema, kernels by backend, fake kernel and autograd, in one call.

The last argument of each registered operator is `str backend`, so that it is a pure function of its arguments, a compiled
graph shows which kernel it runs, and a backward pass, which autograd may run in another thread, uses the forward's backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from facegan import backend

library = torch.library.Library("facegan", "DEF")


def dense(x: Tensor) -> Tensor:
    """x itself when it lies without gaps in channels_last or in rows, as its strides suggest, else a copy that does."""
    return x.contiguous(memory_format=torch._prims_common.suggest_memory_format(x))


def like(x: Tensor, shape: Sequence[int | torch.SymInt] | None = None) -> Tensor:
    """A fake kernel's result in x's format: every kernel is given its first tensor `dense` and keeps to its format."""
    memory_format = torch._prims_common.suggest_memory_format(x)
    return x.new_empty(x.shape if shape is None else shape).contiguous(memory_format=memory_format)


def uncast(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast narrows the arguments of convolutions and matrix products; those inside keep theirs."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None


def register(
    op: str,
    schema: str,
    *,
    fake: Callable[..., Any],
    autograd: Callable[..., Any],
    reference: Callable[..., Any],
    optional: bool = False,
) -> Callable[..., Any]:
    """Defines `facegan::<schema>`, a part of `op`; returns it as seen from below autograd (kernels only, no graph).

    `reference` is its PyTorch form and `fake` its shape function; both and every kernel take the schema's arguments, the
    kernels without the last and with their first tensor `dense`. An `optional` operator is served by its PyTorch form on a
    backend that has no kernel for it.

    `autograd` runs when a gradient may be wanted: it applies an autograd.Function made of registered operators, or, where no
    training asks for more, it is the PyTorch form itself, whose native graph serves gradients of any higher order.
    """
    name = schema.split("(")[0]
    backend.register(op, name, reference, optional)
    library.define(schema)
    operator = getattr(torch.ops.facegan, name).default

    def kernel(*args: Any) -> Any:
        first = dense(args[0])
        return backend.kernel(name, args[-1], first.device.type)(first, *args[1:-1])

    def below_autograd(*args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*args)

    def with_autograd(*args: Any) -> Any:
        if forward_ad._current_level >= 0 and any(isinstance(a, Tensor) and _has_tangent(a) for a in args):
            raise NotImplementedError(f"{op}: its kernels have no forward-mode derivatives; ask for them inside use_backend('reference').")
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
            return autograd(*args)
        return below_autograd(*args)

    library.impl(name, kernel, "CompositeExplicitAutograd")
    library.impl(name, with_autograd, "Autograd")
    torch.library.register_fake(f"facegan::{name}", fake, lib=library)
    return below_autograd
