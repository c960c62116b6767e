"""An unpickler that runs no code of the file: a short list of names, each answered by a function of ours, and all else refused.

NVIDIA's networks are pickles whose own loader executes the source text inside them. Here such an object becomes an inert `Record`
of what it was saved with: plain containers, numbers and tensors.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from facegan.errors import FaceganError


@dataclass(frozen=True)
class Record:
    """An object of another project as it was saved: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]


class _Function:
    """A function that a pickle may call, and do nothing else with: BUILD could otherwise set attributes on it."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it sets {name!r} on a function")

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("it gives a function a state")


class _DType:
    """numpy.dtype of one number: "f4" and the like, little-endian."""

    __slots__ = ("code",)

    def __init__(self, code: str, *flags: Any) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"it holds a numpy dtype {code!r}, which is not one of {', '.join(_NUMBERS)}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "=", "|"):
            raise pickle.UnpicklingError("it holds a numpy dtype with a byte order or fields of its own")


_NUMBERS = {"f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q", "b1": "<?"}


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != struct.calcsize(_NUMBERS[dtype.code]):
        raise pickle.UnpicklingError("it holds a numpy scalar that is not one number")
    value: float | int | bool = struct.unpack(_NUMBERS[dtype.code], data)[0]
    return value


def _storage(data: Any) -> Any:
    """torch.storage._load_from_bytes, which is a whole unpickling of its own, by PyTorch's restricted reader."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds a tensor storage that is not bytes")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2, for dense tensors whose storage really holds them."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("it holds a tensor without a storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"it holds a tensor of size {size} and stride {stride}")
    stored, last = storage._size(), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > stored or (math.prod(size) > 0 and last >= stored):
        raise pickle.UnpicklingError(f"it holds a tensor of size {size} and stride {stride}, beyond its {stored} stored numbers")
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return tensor


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("it holds a parameter that is not a tensor")
    return data


def _persistent(meta: Any) -> Record:
    """torch_utils.persistence: {type, version, module_src, class_name, state}; the source text is left unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str) or not isinstance(meta.get("state"), dict):
        raise pickle.UnpicklingError("it holds a persistent object without a class name and a state")
    return Record(meta["class_name"], meta["state"])


# Types that a pickle may instantiate are built in: nothing can be set on them.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("dnnlib.util", "EasyDict"): dict,
    ("numpy", "dtype"): _Function(_DType),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_persistent),
}


class _Refused(pickle.UnpicklingError):
    """A name that is not on the list."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.startswith("dnnlib.tflib"):
            raise _Refused(
                "it is a network of the TensorFlow StyleGAN; convert it first with legacy.py of NVIDIA's stylegan2-ada-pytorch"
            )
        raise _Refused(f"it asks for {module}.{name}, which no network of the supported kinds needs; nothing was run")


def load(data: bytes, origin: str) -> Any:
    """The object in a pickle of the supported kinds.

    Raises:
        FaceganError: the file asks for anything else, or is broken; nothing of it has been run.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused as refusal:
        raise FaceganError(f"{origin} is refused: {refusal}.") from None
    except Exception as error:  # a hostile file can make the machinery of pickle or of torch.load fail in any way
        raise FaceganError(f"{origin} is not a readable network pickle: {_clause(error)}.") from None


def _clause(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.rstrip(".")
