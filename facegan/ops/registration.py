"""How every op enters `torch.library`: schema, kernels, fake kernel and autograd, in one call, once for each backend.

A backend has its operators in a namespace of its own (`NAMESPACES`), so that they are pure functions of their arguments, a compiled
graph shows which kernel it runs, and a backward pass, which autograd may run in another thread, uses the forward's backend: the
autograd Functions take the operators of the chosen one, `operators(backend)`, as their last argument.

Eager code calls an `Operator`: without a gradient to come it goes to the kernel in one step, below autograd; where one is wanted it
applies the autograd Function, which calls the kernel in the same way. The dispatcher's own route through the Autograd key is for
compilers, which trace it, and for those who call `torch.ops.facegan.*` by name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from facegan import backend
from facegan.ops.activation import ACTIVATION_SCHEMA, Activation, as_named
from facegan.ops.formats import to_dense

NAMESPACES = {"native": "facegan", "triton": "facegan_triton", "reference": "facegan_reference"}

_any_requires_grad = torch._C._any_requires_grad
_below_autograd = torch._C._AutoDispatchBelowAutograd
_transforms_active = torch._C._are_functorch_transforms_active


class Definition(NamedTuple):
    """What `register` is given, for all backends alike."""

    op: str
    name: str
    arguments: str  # of the schema, with the parentheses, and what is returned
    fake: Callable[..., Any]
    autograd: Callable[..., Any]
    reference: Callable[..., Any]
    optional: bool
    ends_in_activation: bool


_definitions: dict[str, Definition] = {}
_operators: dict[str, Operators] = {}


def register(
    op: str,
    schema: str,
    *,
    fake: Callable[..., Any],
    autograd: Callable[..., Any] | type[torch.autograd.Function],
    reference: Callable[..., Any],
    optional: bool = False,
) -> None:
    """Define the registered operator `<schema>`, a part of `op`.

    `reference` is its PyTorch form and `fake` its shape function; both and every kernel take the schema's arguments, the kernels with
    their first tensor dense (`to_dense`). An `optional` operator is served by its PyTorch form on a backend that has no kernel for it.
    Where the schema ends in `ACTIVATION_SCHEMA`, the functions given here take those arguments as one `Activation`.

    `autograd` runs when a gradient may be wanted, with the backend's `Operators` as an argument after the schema's: an
    autograd.Function made of them or, where no training asks for more, the PyTorch form itself, whose native graph serves
    gradients of any higher order (`by_pytorch`).
    """
    name, rest = schema.split("(", 1)
    autograd = applied(autograd) if isinstance(autograd, type) else autograd
    ends_in_activation = f"{ACTIVATION_SCHEMA})" in rest
    if ends_in_activation:
        fake, reference = _packing(fake), _packing(reference)
    backend.register(op, name, reference, optional)
    _definitions[name] = Definition(op, name, f"({rest}", fake, autograd, reference, optional, ends_in_activation)


def _packing(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which takes an `Activation` last, as one of the schema's arguments."""
    return lambda *args: function(*args[:-4], as_named(Activation, args[-4:]))


def applied(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Return `function.apply` without its look at functorch, for callers who have had one."""
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    return apply


def by_pytorch(reference: Callable[..., Any]) -> Callable[..., Any]:
    """Return gradients by PyTorch's own graph of the reference."""
    return lambda *args: reference(*args[:-1])


def operators(backend_name: str) -> Operators:
    """Return the registered operators of a backend, by their names."""
    if torch.compiler.is_compiling():  # a graph takes them as PyTorch knows them, and the Autograd key where it needs gradients
        serving = _register(backend_name)
        # written out, as Dynamo follows attributes that it can name
        if serving == "native":
            return torch.ops.facegan  # type: ignore[return-value]
        return torch.ops.facegan_triton if serving == "triton" else torch.ops.facegan_reference  # type: ignore[return-value]
    if backend_name not in _operators:
        _register(backend_name)
    return _operators[backend_name]


@backend.constant_in_graphs
def _register(backend_name: str) -> str:
    if backend_name not in _operators:
        _operators[backend_name] = Operators(backend_name)
    return _operators[backend_name].backend


class Operators:
    """`operators("native").bias_act(...)`: an `Operator` for each definition."""

    def __init__(self, backend_name: str) -> None:
        """Register all definitions for a backend."""
        self.backend = backend_name
        self.library = torch.library.Library(NAMESPACES[backend_name], "FRAGMENT")
        for name in _definitions:
            setattr(self, name, Operator(_definitions[name], self))

    def __getattr__(self, name: str) -> Operator:
        """Satisfy type checkers: all are set above."""
        raise AttributeError(f"{name!r} is no registered operator.")


class Operator:
    """A registered operator of one backend."""

    def __init__(self, definition: Definition, of: Operators) -> None:
        """Register the operator in its backend's namespace."""
        self.definition, self.operators = definition, of
        self.autograd, self.ends_in_activation = definition.autograd, definition.ends_in_activation
        # Where a backend has no kernel, eager code takes PyTorch's own operators and graph without a detour.
        self.plain = definition.reference if definition.optional and not backend.kernel_exists(definition.name, of.backend) else None
        self.overload = _overload(definition, of)
        of.library.impl(definition.name, self._with_autograd, "Autograd")
        torch.library.register_fake(self.overload._name, definition.fake, lib=of.library)

    def __call__(self, *args: Any) -> Any:
        """Run it, with gradients where they are wanted."""
        return self._with_autograd(*args) if self.plain is None else self.plain(*args)

    def _with_autograd(self, *args: Any) -> Any:
        if forward_ad._current_level >= 0:
            self._refuse_tangents(args)
        if torch.is_grad_enabled() and _any_requires_grad(*args):
            if _transforms_active():
                raise backend.untransformable(self.definition.op, self.operators.backend)
            if self.ends_in_activation:
                return self.autograd(*args[:-4], as_named(Activation, args[-4:]), self.operators)
            return self.autograd(*args, self.operators)
        with _below_autograd():
            return self.overload(*args)

    def kernel(self, *args: Any) -> Any:
        """Run it without, for the forward of an autograd.Function."""
        if self.plain is not None:
            return self.plain(*args)
        with _below_autograd():
            return self.overload(*args)

    def _refuse_tangents(self, args: tuple[Any, ...]) -> None:
        """A kernel that knows nothing of tangents would drop them silently."""
        if any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in args):
            raise backend.untransformable(self.definition.op, self.operators.backend)


def _overload(definition: Definition, of: Operators) -> Any:
    """The operator in the namespace: the compiled library's own, or one that runs what `backend.kernel` finds."""
    name, namespace = definition.name, NAMESPACES[of.backend]
    if of.backend == "native" and backend.compiled(name):
        return getattr(torch.ops.facegan, name).default

    def run(*args: Any) -> Any:
        first = to_dense(args[0])
        return backend.kernel(name, of.backend, first.device.type)(first, *args[1:])

    def run_reference(*args: Any) -> Any:
        return _laid_out(definition.reference(to_dense(args[0]), *args[1:]), definition.fake, args)

    of.library.define(f"{name}{definition.arguments}")
    of.library.impl(name, run_reference if of.backend == "reference" else run, "CompositeExplicitAutograd")
    return getattr(getattr(torch.ops, namespace), name).default


def _laid_out(results: Any, fake: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """The PyTorch form's results with the strides that the fake kernel tells: PyTorch's own rule differs by operator."""
    expected = fake(*(_on_meta(a) if isinstance(a, Tensor) else a for a in args))
    if isinstance(results, Tensor):
        return _with_strides(results, expected, args)
    return tuple(_with_strides(y, like, args) for y, like in zip(results, expected, strict=True))


def _on_meta(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _with_strides(y: Tensor, like: Tensor, args: tuple[Any, ...]) -> Tensor:
    if y.stride() == like.stride() and not any(y is a for a in args):  # an operator must not return its argument
        return y
    return torch.empty_strided(like.shape, like.stride(), dtype=y.dtype, device=y.device).copy_(y)


def uncast(x: Tensor) -> AbstractContextManager[Any]:
    """Keep the dtypes of the arguments of convolutions and matrix products inside, which autocast would narrow."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
