"""Parsers made from options: one flag a field, of the type that its annotation says."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from facegan.cli.messages import fields_of, flag_of, with_flags
from facegan.config import MOST, Options
from facegan.methods import METHODS

RAW = argparse.RawDescriptionHelpFormatter


def finite(text: str) -> float:
    """A number that is no nan and no infinity, as the type of a flag."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from {-MOST:g} to {MOST:g}")
    return value


def whole(text: str) -> int:
    """A whole number as the type of a flag."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None


def _type_of(kind: Any) -> Callable[[str], Any]:
    """What reads one word of a field; the options themselves read lists."""
    return _type_of(get_args(kind)[0]) if type(None) in get_args(kind) else {int: whole, float: finite}.get(kind, str)


def _metavar(kind: Any) -> str:
    if get_origin(kind) is tuple:
        parts = [_metavar(part) for part in get_args(kind) if part is not Ellipsis]
        return ",".join(parts) + (",..." if Ellipsis in get_args(kind) else "")
    if type(None) in get_args(kind):
        return _metavar(get_args(kind)[0])
    return {int: "INT", float: "FLOAT"}.get(kind, "TEXT")


def add_arguments(parser: argparse.ArgumentParser, options: type[Options]) -> None:
    """One argument per field, in the fields' groups; absent flags stay absent, so that a recipe can tell."""
    groups: dict[str, Any] = {}
    hints = get_type_hints(options)
    for item in sorted(fields(options), key=lambda item: item.name in ("device", "cuda_graphs")):  # last, where commands have their own
        about, kind = item.metadata, hints[item.name]
        common: dict[str, Any] = dict(help=_help(options, item), default=argparse.SUPPRESS)
        common |= {name: about[name] for name in ("metavar", "nargs") if about.get(name)}
        if "place" in about:
            parser.add_argument(item.name, **common | dict(metavar=about["place"], type=_type_of(kind)))
            continue
        heading = about["group"] or "options"
        groups[heading] = groups.get(heading) or (parser.add_argument_group(heading) if about["group"] else parser._optionals)
        common |= dict(dest=item.name, required=about.get("required", False))
        if kind is bool:
            common["action"] = argparse.BooleanOptionalAction
        else:
            choices = tuple(METHODS) if item.name == "method" else about["choices"] or _choices(kind)
            common |= dict(type=_type_of(kind), choices=choices)
            common.setdefault("metavar", None if choices else _metavar(kind))
        groups[heading].add_argument(flag_of(item.name), *map(flag_of, about.get("also", ())), **common)


def name_flags(parser: argparse.ArgumentParser) -> None:
    """Write fields in backticks as flags, in all of the parser's help."""
    known = fields_of(parser)
    parser.epilog = with_flags(parser.epilog or "", known)
    for action in parser._actions:
        action.help = with_flags(action.help or "", known)
    for group in parser._action_groups:
        group.title = with_flags(group.title or "", known)


def _choices(kind: Any) -> tuple[str, ...] | None:
    """Of Literal["a", "b"], or that or None."""
    literal = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)
    return get_args(literal) or None


def _help(options: type[Options], item: Field[Any]) -> str:
    """The field's sentence, with the default in force: the default recipe's, then what other recipes have."""
    text = item.metadata["help"].replace("%", "%%")
    if item.name == "method":
        text = "; ".join(f"{name}: {spec.summary}" for name, spec in METHODS.items())
    recipes = options.RECIPES
    chosen = str(next((each.default for each in fields(options) if each.name == "recipe"), ""))
    default = recipes.get(chosen, {}).get(item.name, item.default)
    if default in ("", None, ()) or item.metadata.get("required"):
        return text
    if "shown" in item.metadata:
        return f"{text} (default: {item.metadata['shown']})"
    others = {name: values.get(item.name, item.default) for name, values in recipes.items()}
    notes = [f"{name}: {_written(value)}" for name, value in others.items() if value != default]
    return f"{text} (default: {'; '.join([_written(default), *notes])})"


def _written(value: Any) -> str:
    return ",".join(map(_written, value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


def named_method(arguments: Sequence[str]) -> str:
    """The method that a command line asks for, so that the parser can have that method's flags."""
    finder = argparse.ArgumentParser(prog="facegan", add_help=False, allow_abbrev=False)
    finder.add_argument("--method", choices=tuple(METHODS), default="a")
    return finder.parse_known_args(arguments)[0].method
