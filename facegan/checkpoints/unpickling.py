"""An unpickler that runs no code of the file: a short list of names, each answered by a function of ours, and all else refused.

NVIDIA's networks are pickles whose own loader executes the source text inside them. Here such an object becomes an inert `Record`
of what it was saved with: plain containers, numbers and tensors. Nor may a file take more memory than its own size accounts for.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, NoReturn

from facegan.checkpoints.inert import KNOWN, Array, DType, name_set
from facegan.files import quoted

_MOST_INSTRUCTIONS = 500_000  # of one pickle: each may make an object; a network's has some tens of thousands
LARGEST_PART = 256 << 20  # bytes of one string or storage; a layer of StyleGAN2 has 9 MB


class Refused(pickle.UnpicklingError):
    """A name that is not on the list."""


class Instructions(dict[int, Callable[..., None]]):
    """Python's own, those that are harmless, by opcode."""

    def __missing__(self, opcode: int) -> NoReturn:
        name = next((known.name for known in pickletools.opcodes if ord(known.code) == opcode), str(opcode))
        raise pickle.UnpicklingError(f"it uses the instruction {name}, which no network needs")


_HARMLESS = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    LIST EMPTY_LIST EMPTY_DICT EMPTY_SET GLOBAL STACK_GLOBAL REDUCE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE
""".split()
OPCODES = Instructions({getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _HARMLESS})


class _Parts:
    """A file, none of whose strings is larger than any tensor; `taken`: bytes read so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.taken = file, 0

    def read(self, count: int) -> bytes:
        if count > LARGEST_PART:
            raise pickle.UnpicklingError(f"it holds a string of {count} bytes, which no network needs")
        return self._counted(self.file.read(count))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(LARGEST_PART))

    def _counted(self, data: bytes) -> bytes:
        self.taken += len(data)
        return data


class Unpickler(pickle._Unpickler):
    """The one in Python: in C, two bytes would fill gigabytes (PUT makes room for its index), and BUILD calls any `__setstate__`,
    such as a tensor's, which resizes its storage. Instructions that change an object accept the plain containers alone."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = OPCODES
    bits: ClassVar[int] = 64  # of a whole number
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO) -> None:
        self.parts, self.spent = _Parts(file), 0
        super().__init__(self.parts)

    def load(self) -> Any:
        """As pickle's own, of so many instructions at most."""
        self._unframer = pickle._Unframer(self.parts.read, self.parts.readline)  # type: ignore[attr-defined]
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack: list[list[Any]] = []
        self.stack, self.proto = [], 0
        self.append = self.stack.append
        try:
            for _ in range(_MOST_INSTRUCTIONS):
                key = self.read(1)
                if not key:
                    raise EOFError("it ends too early")
                self.dispatch[key[0]](self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value
        raise pickle.UnpicklingError(f"it holds more than {_MOST_INSTRUCTIONS:,} instructions, more than any network")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module.startswith("dnnlib.tflib"):
            raise Refused("it is a network of the TensorFlow StyleGAN; convert it first with legacy.py of NVIDIA's stylegan2-ada-pytorch")
        asked = quoted(f"{module[:100]}.{name[:100]}")
        raise Refused(f"it asks for {asked}, which no network of the supported kinds needs; nothing was run")

    def _bounded(self, load: Callable[[Any], None]) -> None:
        try:
            load(self)
        except ValueError:
            raise pickle.UnpicklingError("it holds digits that are no whole number, or too many of them") from None
        if type(self.stack[-1]) is int and self.stack[-1].bit_length() > self.bits:
            raise pickle.UnpicklingError(f"it holds {quoted(self.stack[-1])}, which no network needs")

    def _call(self) -> None:
        """Each part of a file may be copied a few times, as bytes are on their way to a tensor, and not without end."""
        given = self.stack.pop()
        if type(given) is not tuple:
            raise pickle.UnpicklingError("it calls a function without a tuple of arguments")
        self.spent += sum(len(part) for part in given if isinstance(part, (str, bytes, list, tuple, dict)))
        if self.spent > 4 * self.parts.taken:
            raise pickle.UnpicklingError("it uses the same parts again and again")
        self.stack[-1] = self.stack[-1](*given)

    def _top(self, kind: type, doing: str) -> Any:
        target = self.stack[-1]
        if type(target) is not kind:
            raise pickle.UnpicklingError(f"it {doing} {quoted(target)}")
        return target

    def _append(self, values: list[Any]) -> None:
        self._top(list, "appends to").extend(values)

    def _set(self, items: list[Any]) -> None:
        table = self._top(dict, "sets items of")
        if not all(isinstance(key, (str, int)) for key in items[::2]):  # hashing a tuple nested deeply ends the process
            raise pickle.UnpicklingError("it holds a table whose keys are not names")
        table.update(zip(items[::2], items[1::2], strict=True))

    def _add(self, values: list[Any]) -> None:
        self._top(set, "adds to").update(name_set(values))

    def _build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, (DType, Array)):
            target.check(state)
        elif type(target) is not dict or type(state) is not dict:  # a dictionary's, such as a state dict's versions, are left unread
            raise pickle.UnpicklingError(f"it sets attributes of {quoted(target)}")

    def _bytearray(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(items)

    for _code in (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4):
        OPCODES[_code[0]] = (lambda load: lambda self: self._bounded(load))(OPCODES[_code[0]])
    OPCODES[pickle.BYTEARRAY8[0]] = lambda self: self._bytearray()  # pickle's own makes room for what it claims
    OPCODES[pickle.DICT[0]] = lambda self: self._dict()
    OPCODES[pickle.REDUCE[0]] = OPCODES[pickle.NEWOBJ[0]] = lambda self: self._call()  # all that a file names is a function
    OPCODES[pickle.APPEND[0]] = lambda self: self._append([self.stack.pop()])
    OPCODES[pickle.APPENDS[0]] = lambda self: self._append(self.pop_mark())
    OPCODES[pickle.SETITEM[0]] = lambda self: self._set([self.stack.pop(), self.stack.pop()][::-1])
    OPCODES[pickle.SETITEMS[0]] = lambda self: self._set(self.pop_mark())
    OPCODES[pickle.ADDITEMS[0]] = lambda self: self._add(self.pop_mark())
    OPCODES[pickle.BUILD[0]] = lambda self: self._build(self.stack.pop())


def clause(error: Exception) -> str:
    """What an exception says, for the end of a sentence; objects of a file that it holds are left unformatted."""
    told = error.args[0] if error.args and isinstance(error.args[0], str) else ""
    return quoted((told.strip().splitlines() or [type(error).__name__])[0], 200).rstrip(".")
