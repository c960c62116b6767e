"""Tensors of files that PyTorch wrote, read by the inert unpickler: `load` of a pickle, `load_torch` of a file of `torch.save`.

`torch.load(weights_only=True)` runs no code either, but makes room for whatever a file claims, and refuses numpy's numbers.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch

from facegan.checkpoints.inert import KNOWN, Storage, nothing
from facegan.checkpoints.unpickling import LARGEST_PART, OPCODES, Instructions, Refused, Unpickler, clause
from facegan.errors import FaceganError
from facegan.files import quoted, regular_file

LARGEST = 4 << 30  # bytes of a checkpoint that is worth opening
_LARGEST_DIRECTORY = 4 << 20  # bytes of an archive's list of its parts, which are a thousand or two

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


def _claim(pid: Any) -> tuple[torch.dtype, str, int]:
    """Of ("storage", type, key, device, count, None), where older and newer files leave out the last."""
    if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
        raise pickle.UnpicklingError("it holds a tensor storage in an unknown format")
    dtype, key, count = pid[1], pid[2], pid[4]
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
        raise pickle.UnpicklingError("it holds a tensor storage in an unknown format")
    return dtype, key, count


_DTYPES = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


class _StorageUnpickler(Unpickler):
    """Storages and plain values. Room is made for what they name, in `size` bytes at most, and filled later."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = Instructions(
        {**OPCODES, pickle.BINPERSID[0]: pickle._Unpickler.dispatch[pickle.BINPERSID[0]]}
    )
    bits = 80  # the magic number at the start

    def __init__(self, file: BinaryIO, size: int = 0) -> None:
        super().__init__(file)
        self.left, self.storages = size, dict[str, Storage]()

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise Refused(f"it holds a tensor storage that asks for {quoted(f'{module[:100]}.{name[:100]}')}")

    def persistent_load(self, pid: Any) -> Storage:
        dtype, key, count = _claim(pid)
        if key not in self.storages:
            self.left -= count * dtype.itemsize
            if self.left < 0:
                raise pickle.UnpicklingError("it holds tensor storages of more bytes than it has")
            self.storages[key] = self._stored(dtype, key, count)
        return self.storages[key]

    def _stored(self, dtype: torch.dtype, key: str, count: int) -> Storage:
        return Storage(torch.empty(count, dtype=dtype))


class _TorchUnpickler(_StorageUnpickler):
    """What `torch.save` wrote: of an archive since torch 1.6, where each storage is a part of its own, or of a file before."""

    bits = 64
    archive: zipfile.ZipFile | None = None
    root = ""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch":
            if name in _STORAGES:
                return _STORAGES[name]
            if name in _DTYPES:
                return nothing
        return Unpickler.find_class(self, module, name)

    def _stored(self, dtype: torch.dtype, key: str, count: int) -> Storage:
        if self.archive is None:
            return super()._stored(dtype, key, count)
        data = bytearray(_part(self.archive, f"{self.root}data/{key}"))
        if len(data) != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"it holds a tensor storage of {count} numbers in {len(data)} bytes")
        return Storage(torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype))


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        part = archive.getinfo(name)
    except KeyError:
        raise pickle.UnpicklingError(f"it lacks its part {quoted(name)}") from None
    if part.compress_type != zipfile.ZIP_STORED or part.file_size > LARGEST_PART:
        raise pickle.UnpicklingError(f"its part {quoted(name)} is compressed, or larger than any tensor of a network")
    return archive.read(part)


def load_torch(path: Path) -> Any:
    """The object in a file of `torch.save`, of any version, as far as it is tensors, numbers, text and plain containers of them.

    Raises:
        FaceganError: it asks for anything else, claims more bytes than it has, or is broken; nothing of it has been run.
    """
    size = regular_file(path, LARGEST, "checkpoint")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(0)
            if start[:2] == b"PK":
                return _load_archive(file, size, path)
            if start[:1] != b"\x80":
                raise pickle.UnpicklingError("it is no file of torch.save")
            return load_legacy(file, size, _TorchUnpickler)
    except FaceganError:
        raise
    except Exception as error:  # a hostile file can make the machinery of pickle and zipfile fail in any way
        raise FaceganError(f"{path} cannot be read as weights alone: {clause(error)}.") from None


def _load_archive(file: BinaryIO, size: int, path: Path) -> Any:
    """torch.save compresses nothing: an archive whose parts are larger than itself is made to fill memory."""
    directory = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if directory and directory[5] > _LARGEST_DIRECTORY:
        raise pickle.UnpicklingError("it is an archive of more parts than any network has")
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if unpacked > size:
            raise FaceganError(f"{path} is refused: {size} bytes would unpack to {unpacked}.")
        roots = [part.filename.removesuffix("data.pkl") for part in parts if part.filename.endswith("/data.pkl")]
        if len(roots) != 1:
            raise pickle.UnpicklingError("it is an archive without the one data.pkl of torch.save")
        if f"{roots[0]}byteorder" in archive.NameToInfo and _part(archive, f"{roots[0]}byteorder") != b"little":
            raise pickle.UnpicklingError("its numbers are big-endian")
        reader = _TorchUnpickler(io.BytesIO(_part(archive, f"{roots[0]}data.pkl")), size)
        reader.archive, reader.root = archive, roots[0]
        return reader.load()


def load_legacy(stream: BinaryIO, size: int, kind: type[_StorageUnpickler]) -> Any:
    """torch.save's form before 1.6, of `size` bytes: five small pickles, the fourth of which is the object, then each storage's
    length and bytes. Raises UnpicklingError and whatever a broken pickle trips over."""
    magic, protocol, system = (_StorageUnpickler(stream).load() for _ in range(3))
    if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001) or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise pickle.UnpicklingError("it holds a tensor storage in an unknown format")
    reader = kind(stream, size)
    found, keys = reader.load(), _StorageUnpickler(stream).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(reader.storages):
        raise pickle.UnpicklingError("it holds tensor storages other than those it names")
    for key in keys:
        numbers = reader.storages[key].numbers
        (count,) = struct.unpack("<q", stream.read(8))
        if count != len(numbers):
            raise pickle.UnpicklingError(f"it holds a tensor storage of {count} numbers, which it says are {len(numbers)}")
        room: Any = numbers.view(torch.uint8).numpy()
        if count and stream.readinto(room) != len(room):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError(f"it holds a tensor storage of {count} numbers without their bytes")
    return found


def _storage(data: Any) -> Storage:
    """torch.storage._load_from_bytes. `torch.load` reads more than one row of numbers: tensors that repeat one number without end,
    compressed archives, storages whose bytes are absent."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds a tensor storage that is not bytes")
    stored = load_legacy(io.BytesIO(data), len(data), _StorageUnpickler)
    if not isinstance(stored, Storage):
        raise pickle.UnpicklingError("it holds a tensor storage that is not one row of numbers")
    return stored


KNOWN["torch.storage", "_load_from_bytes"] = _storage


def load(data: bytes | BinaryIO, origin: str) -> Any:
    """The object in a pickle of the supported kinds.

    Raises:
        FaceganError: the file asks for anything else, or is broken; nothing of it has been run.
    """
    try:
        return Unpickler(io.BytesIO(data) if isinstance(data, bytes) else data).load()
    except Refused as refusal:
        raise FaceganError(f"{origin} is refused: {refusal}.") from None
    except Exception as error:  # a hostile file can make the machinery of pickle fail in any way
        raise FaceganError(f"{origin} is not a readable network pickle: {clause(error)}.") from None
