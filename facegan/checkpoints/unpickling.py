"""An unpickler that runs no code of the file: a short list of names, each answered by a function of ours, and all else refused.

NVIDIA's networks are pickles whose own loader executes the source text inside them. Here such an object becomes an inert `Record`
of what it was saved with: plain containers, numbers and tensors. Nor may a file take more memory than its own size accounts for.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from facegan.errors import FaceganError


@dataclass(frozen=True)
class Record:
    """An object of another project as it was saved: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True)
class _DType:
    """numpy.dtype of one number: "f4" and the like, little-endian."""

    code: str

    def check(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "=", "|"):
            raise pickle.UnpicklingError("it holds a numpy dtype with a byte order or fields of its own")


_NUMBERS = {"f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q", "b1": "<?"}


def _dtype(code: Any, *_: Any) -> _DType:
    if not isinstance(code, str) or code not in _NUMBERS:
        raise pickle.UnpicklingError(f"it holds a numpy dtype {code!r}, which is not one of {', '.join(_NUMBERS)}")
    return _DType(code)


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != struct.calcsize(_NUMBERS[dtype.code]):
        raise pickle.UnpicklingError("it holds a numpy scalar that is not one number")
    value: float | int | bool = struct.unpack(_NUMBERS[dtype.code], data)[0]
    return value


@dataclass(frozen=True)
class _Storage:
    """The numbers of tensors, in one row."""

    numbers: Tensor


def _storage(data: Any) -> _Storage:
    """torch.storage._load_from_bytes: five small pickles, then each storage's length and bytes. `torch.load` reads more than that:
    tensors that repeat one number without end, compressed archives, storages whose bytes are absent."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds a tensor storage that is not bytes")
    stream = io.BytesIO(data)
    magic, protocol, system, claim, keys = (_StorageUnpickler(stream).load() for _ in range(5))
    if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001) or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise pickle.UnpicklingError("it holds a tensor storage in an unknown format")
    if not isinstance(claim, _Claim) or keys != [claim.key]:
        raise pickle.UnpicklingError("it holds a tensor storage that is not one row of numbers")
    (count,), rest = struct.unpack("<q", stream.read(8)), bytearray(stream.read())
    if count != claim.count or count * claim.dtype.itemsize != len(rest):
        raise pickle.UnpicklingError(f"it holds a tensor storage of {claim.count} numbers in {len(rest)} bytes")
    return _Storage(torch.frombuffer(rest, dtype=claim.dtype) if rest else torch.empty(0, dtype=claim.dtype))


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2, for dense tensors whose storage really holds them."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("it holds a tensor without a storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"it holds a tensor of size {size} and stride {stride}")
    stored, last = len(storage.numbers), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > stored or (math.prod(size) > 0 and last >= stored):
        raise pickle.UnpicklingError(f"it holds a tensor of size {size} and stride {stride}, beyond its {stored} stored numbers")
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


def _table() -> dict[str, Any]:
    """Any kind of dictionary, made empty and filled later; one made of another would let a small file copy without end."""
    return {}


def _names(names: Any) -> set[str]:
    """The sets of a module: names of buffers."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise pickle.UnpicklingError("it holds a set of something else than names")
    return set(names)


# What a pickle may call. Only functions: whatever one of them returns, the unpickler below sets nothing on it.
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("__builtin__", "set"): _names,
    ("builtins", "set"): _names,
    ("collections", "OrderedDict"): _table,
    ("dnnlib.util", "EasyDict"): _table,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
}


class _Refused(pickle.UnpicklingError):
    """A name that is not on the list."""


class _Instructions(dict[int, Callable[..., None]]):
    """Python's own, those that are harmless, by opcode."""

    def __missing__(self, opcode: int) -> NoReturn:
        name = next((known.name for known in pickletools.opcodes if ord(known.code) == opcode), str(opcode))
        raise pickle.UnpicklingError(f"it uses the instruction {name}, which no network needs")


_HARMLESS = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST EMPTY_DICT EMPTY_SET GLOBAL STACK_GLOBAL REDUCE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE
""".split()
_Opcodes = _Instructions({getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _HARMLESS})


class _Unpickler(pickle._Unpickler):
    """The one in Python: in C, two bytes would fill gigabytes (PUT makes room for its index), and BUILD calls any `__setstate__`,
    such as a tensor's, which resizes its storage. Instructions that change an object accept the plain containers alone."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = _Opcodes
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.startswith("dnnlib.tflib"):
            raise _Refused(
                "it is a network of the TensorFlow StyleGAN; convert it first with legacy.py of NVIDIA's stylegan2-ada-pytorch"
            )
        asked = ascii(f"{module}.{name}")[1:-1][:80]
        raise _Refused(f"it asks for {asked}, which no network of the supported kinds needs; nothing was run")

    def _top(self, kind: type, doing: str) -> Any:
        target = self.stack[-1]
        if type(target) is not kind:
            raise pickle.UnpicklingError(f"it {doing} a {type(target).__name__}")
        return target

    def _append(self, values: list[Any]) -> None:
        self._top(list, "appends to").extend(values)

    def _set(self, items: list[Any]) -> None:
        table = self._top(dict, "sets items of")
        if not all(isinstance(key, (str, int)) for key in items[::2]):  # hashing a tuple nested deeply ends the process
            raise pickle.UnpicklingError("it holds a table whose keys are not names")
        table.update(zip(items[::2], items[1::2], strict=True))

    def _add(self, values: list[Any]) -> None:
        self._top(set, "adds to").update(_names(values))

    def _build(self, state: Any) -> None:
        self._top(_DType, "sets attributes of").check(state)

    _Opcodes[pickle.NEWOBJ[0]] = _Opcodes[pickle.REDUCE[0]]  # all that a file names is a function
    _Opcodes[pickle.APPEND[0]] = lambda self: self._append([self.stack.pop()])
    _Opcodes[pickle.APPENDS[0]] = lambda self: self._append(self.pop_mark())
    _Opcodes[pickle.SETITEM[0]] = lambda self: self._set([self.stack.pop(), self.stack.pop()][::-1])
    _Opcodes[pickle.SETITEMS[0]] = lambda self: self._set(self.pop_mark())
    _Opcodes[pickle.ADDITEMS[0]] = lambda self: self._add(self.pop_mark())
    _Opcodes[pickle.BUILD[0]] = lambda self: self._build(self.stack.pop())


@dataclass(frozen=True)
class _Claim:
    """What a storage's own pickle says of it."""

    dtype: torch.dtype
    key: str
    count: int


_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


class _StorageUnpickler(_Unpickler):
    dispatch: ClassVar[dict[int, Callable[..., None]]] = _Instructions(
        {**_Opcodes, pickle.BINPERSID[0]: pickle._Unpickler.dispatch[pickle.BINPERSID[0]]}
    )

    def find_class(self, module: str, name: str) -> Any:
        if module != "torch" or name not in _STORAGES:
            raise pickle.UnpicklingError(f"it holds a tensor storage that asks for {ascii(f'{module}.{name}')[1:-1][:80]}")
        return _STORAGES[name]

    def persistent_load(self, pid: Any) -> _Claim:
        """("storage", type, key, device, count, None)"""
        dtype, key, count, view = pid[1], pid[2], pid[4], pid[5:]
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int or view != (None,):
            raise pickle.UnpicklingError("it holds a tensor storage in an unknown format")
        return _Claim(dtype, key, count)


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


def check_size(tensors: Iterable[tuple[str, Tensor]], size: int, origin: str) -> dict[str, Tensor]:
    """The named tensors of a file of `size` bytes as a table.

    Raises:
        FaceganError: they are more numbers than the file has bytes, as when one stored number is repeated by a stride of 0 or one
            tensor bears thousands of names: conversion would write them all out.
    """
    found: dict[str, Tensor] = {}
    total = 0
    for name, value in tensors:
        total += value.numel() + 1
        if total > size:
            raise FaceganError(f"{origin} is refused: its {size} bytes claim to hold more numbers than that.")
        found[name] = value
    return found
