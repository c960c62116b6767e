"""A GPU to test with where there is none: tensors that say `cuda:0` and are computed on the CPU, bit for bit.

What a GPU refuses is refused: an operator on tensors of both devices (a CPU scalar and a CPU index aside, which CUDA takes), and
`numpy()`. What makes the host wait for a GPU is noted: reading a number, shapes that depend on values, copies to the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal")


class OnGPU(Tensor):
    """Autograd and PyTorch's C++ take it for a `meta` tensor, which works in builds without CUDA."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGPU:
        kept = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, layout=inner.layout)
        outer = Tensor._make_wrapper_subclass(cls, inner.shape, device="meta", **kept)
        outer.inner = inner
        return outer

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGPU({self.inner})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, [])


def computed(func: Any, args: Any, kwargs: dict[str, Any], waits: list[str]) -> Any:
    """`func` on the CPU, its result where a GPU would have it; what a GPU would be waited for is added to `waits`."""
    name, target = func._schema.name, place_asked_for(kwargs)
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    here = [isinstance(tensor, OnGPU) for tensor in tensors]
    if name in ("aten::_to_copy", "aten::copy_"):
        result = here[0] if target is None else target == GPU
        source, at_once = here[-1], kwargs.get("non_blocking") or (name == "aten::copy_" and len(args) > 2 and args[2])
        if source != result and not (result and at_once):  # from pageable memory, too, the host waits
            waits.append(f"{name} {'to the CPU' if source else 'to the GPU'}")
    else:
        result = any(here) if target is None else target == GPU
        refuse_mixed(name, tensors, here)
        if any(here) and name in WAITING:
            waits.append(name)
    plain_args, plain_kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnGPU) else leaf, (args, kwargs))
    if target == GPU:
        plain_kwargs["device"] = torch.device("cpu")
    plain_kwargs.pop("pin_memory", None)
    found = func(*plain_args, **plain_kwargs)
    if not result or name == "aten::_local_scalar_dense":
        return found
    found = tree_map(lambda leaf: OnGPU(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return found if name == "aten::_to_copy" else return_and_correct_aliasing(func, args, kwargs, found)


def place_asked_for(kwargs: dict[str, Any]) -> torch.device | None:
    """C++ that asks for the device of an `OnGPU` asks for `meta`."""
    target = kwargs.get("device")
    return GPU if target is not None and torch.device(target).type in ("cuda", "meta") else target


def refuse_mixed(name: str, tensors: list[Tensor], here: list[bool]) -> None:
    if any(here) and not all(here):
        wrong = [tensor for tensor, on_gpu in zip(tensors, here, strict=True) if not on_gpu and tensor.dim()]
        if name in INDEXING and here[0]:
            wrong = [tensor for tensor in wrong if tensor.dtype not in (torch.int64, torch.bool)]
        if wrong:
            raise AssertionError(f"{name}: tensors on both devices, of the CPU one of shape {list(wrong[0].shape)}")


class PretendGPU(TorchDispatchMode):
    """While it is on, `device="cuda:0"` makes `OnGPU`; `waits` holds what the host would have waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, self.waits)


class Generator(torch.Generator):
    """One of a device; those of the pretended one give a CPU's numbers."""

    device: torch.device = torch.device("cpu")  # type: ignore[misc]

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        made = super().__new__(cls)
        made.device = torch.device(device)
        return made


class Calls(TorchFunctionMode):
    """What never reaches a dispatcher: numbers out of Python, and generators, of which one device's has no numbers for the other."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "meta":  # who says so in Python means it
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is Tensor.new_tensor and isinstance(args[0], OnGPU):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(GPU)
        found, source = func(*args, **kwargs), kwargs.get("generator")
        if source is not None and isinstance(found, Tensor) and found.device.type != source.device.type:
            raise AssertionError(f"{func.__name__}: a generator of {source.device} for numbers on {found.device}")
        return found


@contextmanager
def pretend_gpu() -> Iterator[PretendGPU]:
    """Everything inside takes this machine for one with one GPU. The reference operators serve: kernels want a real one."""
    from facegan.backend import use_backend

    with pytest.MonkeyPatch.context() as patch, use_backend("reference"), PretendGPU() as mode, Calls():
        patch.setattr("facegan.devices.gpu_here", lambda: True)
        for name, value in {
            "_lazy_init": lambda: None, "device_count": lambda: 1, "set_device": lambda device: None, "empty_cache": lambda: None,
            "get_device_name": lambda device=None: "a pretended GPU", "synchronize": lambda device=None: None,
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, value)
        patch.setattr("facegan.graphs.RECORDERS", {})  # a graph wants a real one
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(Tensor, "pin_memory", lambda self, *_: self)
        yield mode
