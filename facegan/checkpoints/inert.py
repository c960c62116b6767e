"""What a pickle of a network may call, answered by functions of ours: inert records, numbers and plain containers."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from facegan.files import quoted

_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Record:
    """An object of another project as it was saved: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True)
class DType:
    """numpy.dtype of one number: "f4" and the like, little-endian."""

    code: str

    def check(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "=", "|"):
            raise pickle.UnpicklingError("it holds a numpy dtype with a byte order or fields of its own")


class Array:
    """A numpy array of numbers, which are left unread."""

    def check(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], DType) or not isinstance(state[4], bytes):
            raise pickle.UnpicklingError("it holds a numpy array of something else than numbers")


_NUMBERS = {"f2": "<e", "f4": "<f", "f8": "<d", "i1": "<b", "i2": "<h", "i4": "<i", "i8": "<q",
            "u1": "<B", "u2": "<H", "u4": "<I", "u8": "<Q", "b1": "<?"}  # fmt: skip


def _dtype(code: Any, *_: Any) -> DType:
    if not isinstance(code, str) or code not in _NUMBERS:
        raise pickle.UnpicklingError(f"it holds a numpy dtype {quoted(code)}, which is not one of {', '.join(_NUMBERS)}")
    return DType(code)


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, DType) or not isinstance(data, bytes) or len(data) != struct.calcsize(_NUMBERS[dtype.code]):
        raise pickle.UnpicklingError("it holds a numpy scalar that is not one number")
    value: float | int | bool = struct.unpack(_NUMBERS[dtype.code], data)[0]
    return value


def _array(*_: Any) -> Array:
    return Array()


@dataclass(frozen=True)
class Storage:
    """The numbers of tensors, in one row."""

    numbers: Tensor


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2, for dense tensors whose storage really holds them."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("it holds a tensor without a storage")
    if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= _MOST_DIMENSIONS:
        raise pickle.UnpicklingError("it holds a tensor whose size and stride are not tuples of one length")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError("it holds a tensor whose offset, size and stride are not whole numbers from 0")
    stored, last = len(storage.numbers), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > stored or (math.prod(size) > 0 and last >= stored):
        claimed = f"of size {list(size)} and stride {list(stride)}"
        raise pickle.UnpicklingError(f"it holds a tensor {claimed}, beyond its {stored} stored numbers")
    return storage.numbers.as_strided(size, stride, offset)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("it holds a parameter that is not a tensor")
    return data


def _persistent(meta: Any) -> Record:
    """torch_utils.persistence: {type, version, module_src, class_name, state}; the source text is left unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str) or not isinstance(meta.get("state"), dict):
        raise pickle.UnpicklingError("it holds a persistent object without a class name and a state")
    return Record(meta["class_name"], meta["state"])


def _table(*given: Any) -> dict[str, Any]:
    """Any kind of dictionary, made empty and filled later; one made of another would let a small file copy without end."""
    if any(isinstance(argument, (dict, list, tuple)) and argument for argument in given):
        raise pickle.UnpicklingError("it makes a dictionary of another object")
    return {}


def _counter(counts: Any = None) -> dict[str, Any]:
    return counts if type(counts) is dict else {}


def _list(*_: Any) -> list[Any]:
    return []


def nothing(*_: Any) -> None:
    """A path, a device, a dtype: no network needs them."""


def name_set(names: Any) -> set[str]:
    """The sets of a module: names of buffers."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise pickle.UnpicklingError("it holds a set of something else than names")
    return set(names)


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocols 0 to 2 write them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it holds bytes in an encoding other than latin1")
    return text.encode("latin-1")


def _bytes() -> bytes:
    return b""


def _dictionary(kind: Any, base: Any, state: Any) -> dict[str, Any]:
    """copyreg._reconstructor: a dictionary or a namespace, as protocols 0 and 1 write them."""
    if kind is not _table or base not in (_table, nothing) or not (state is None or type(state) is dict):
        raise pickle.UnpicklingError("it holds an object of copyreg._reconstructor that is no dictionary")
    return {} if state is None else state


# Only functions: whatever one of them returns, the unpickler sets nothing on it. `storages` adds that of stored tensors.
KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("argparse", "Namespace"): _table,
    ("collections", "Counter"): _counter,
    ("collections", "OrderedDict"): _table,
    ("collections", "defaultdict"): _table,
    ("collections", "deque"): _list,
    ("dnnlib.util", "EasyDict"): _table,
    ("easydict", "EasyDict"): _table,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _array,
    ("torch", "Size"): tuple,
    ("torch", "device"): nothing,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("types", "SimpleNamespace"): _table,
}
KNOWN |= {(module, "_reconstructor"): _dictionary for module in ("copyreg", "copy_reg")}
KNOWN |= {(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")}
KNOWN |= {(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")}
KNOWN |= {(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")}
KNOWN |= {(module, name): nothing for module in ("pathlib", "pathlib._local") for name in ("Path", "PosixPath", "WindowsPath")}
_BUILTINS: dict[str, Callable[..., Any]] = {"set": name_set, "dict": _table, "list": _list, "bytes": _bytes, "object": nothing}
_BUILTINS |= dict.fromkeys(("int", "float", "str", "bool"), nothing)  # what a defaultdict makes
KNOWN |= {(module, name): made for module in ("builtins", "__builtin__") for name, made in _BUILTINS.items()}
_KINDS = {"Float": "f", "Int": "i", "UInt": "u"}
KNOWN |= {
    ("numpy.dtypes", f"{kind}{8 * int(size)}DType"): partial(DType, short + size)
    for kind, short in _KINDS.items() for size in "1248" if short + size in _NUMBERS
}  # fmt: skip
