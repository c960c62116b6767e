"""What a JSON file must hold, told by annotations: one check for all who read it, and a sentence for whatever does not fit.

class Facts(TypedDict):
    step: Annotated[int, Range(0)]
    extra: dict[str, Any]

metadata = checked(read_json(path), Facts, path)
config = checked(metadata["extra"]["network"], StyleGAN2Config, path)
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, Union, get_args, get_origin, get_type_hints, is_typeddict

from facegan.errors import FaceganError
from facegan.files import quoted

_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text", list: "a list", dict: "an object"}


class Range(NamedTuple):
    """Of a number, both ends included: `Annotated[int, Range(0, 10)]`."""

    least: float = -math.inf
    most: float = math.inf


def checked(value: Any, kind: Any, where: object, name: str = "") -> Any:
    """`value`, as JSON gives it, in the form that an annotation asks for.

    Args:
        kind: bool, int, float (finite; whole numbers are taken), str, Any, Literal, `X | None`, Annotated with a Range, list, tuple and
            dict of str of such, a TypedDict (which may hold more keys than it names) or a dataclass (which may not, and is built;
            `choices` in a field's metadata are its only values).
        where: the file, for the message, if there is one; `name`: the value's place in it.

    Raises:
        FaceganError: it is of another kind or out of range, or something is missing.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        found = checked(value, arguments[0], where, name)
        least, most = arguments[1]
        if not least <= found <= most:
            _refuse(value, f"{least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more", where, name)
        return found
    if origin in (Union, types.UnionType):  # X | None
        [other] = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else checked(value, other, where, name)
    if origin is Literal:
        return value if isinstance(value, str) and value in arguments else _refuse(value, _one_of(arguments), where, name)
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(_list(value, where, name)) != len(arguments):
            _refuse(value, f"a list of {len(arguments)}", where, name)
        return tuple(checked(item, each, where, f"{name}[{i}]") for i, (item, each) in enumerate(zip(value, arguments, strict=True)))
    if origin in (list, tuple):
        return origin(checked(item, arguments[0], where, f"{name}[{i}]") for i, item in enumerate(_list(value, where, name)))
    if origin is dict:
        return {key: checked(item, arguments[1], where, _joined(name, key)) for key, item in _object(value, where, name).items()}
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _fields(value, kind, where, name)
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    return value if type(value) is kind and kind is not float else _refuse(value, _WORDS[kind], where, name)


def _fields(value: Any, kind: Any, where: object, name: str) -> Any:
    given, hints = _object(value, where, name), get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        required, choices = kind.__required_keys__, {}
    else:
        fields = dataclasses.fields(kind)
        hints = {field.name: hints[field.name] for field in fields}
        missing = dataclasses.MISSING
        required = {field.name for field in fields if field.default is missing and field.default_factory is missing}
        choices = {field.name: field.metadata["choices"] for field in fields if field.metadata.get("choices")}
        for key in given.keys() - hints.keys():
            raise FaceganError(f"{where} says {_joined(name, key)}, which nothing here has: it may be of another version")
    for key in required - given.keys():
        raise FaceganError(f"{where} does not say {_joined(name, key)}: it is damaged, or of another version")
    found = {key: checked(item, hints[key], where, _joined(name, key)) if key in hints else item for key, item in given.items()}
    for key, known in choices.items():
        if key in found and found[key] not in known:
            _refuse(found[key], _one_of(known), where, _joined(name, key))
    return found if is_typeddict(kind) else kind(**found)


def _list(value: Any, where: object, name: str) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else _refuse(value, _WORDS[list], where, name)


def _object(value: Any, where: object, name: str) -> dict[str, Any]:
    return value if isinstance(value, dict) else _refuse(value, _WORDS[dict], where, name)


def _joined(name: str, key: str) -> str:
    return f"{name}.{quoted(key)}" if name else quoted(key)


def _one_of(values: Any) -> str:
    return f"one of {', '.join(values)}"


def _refuse(value: Any, expected: str, where: object, name: str) -> NoReturn:
    holds = f"{name or 'it'} {'is' if name else 'holds'} "
    if not where:
        raise FaceganError(f"{holds}{repr(value[:60]) if isinstance(value, str) else quoted(value)}: expected {expected}")
    raise FaceganError(f"{where}: {holds}{quoted(value)}; expected {expected}")
