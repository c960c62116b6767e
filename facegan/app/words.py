"""What the page says: the library's sentences with the names of its controls, and every state as a command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from facegan.app.turns import Stopped
from facegan.config import Options
from facegan.errors import FaceganError
from facegan.memory import out_of_memory

# fields of the library whose controls have other names
LABELS = {
    "rows": "Rows",
    "cols": "Columns",
    "seeds": "Seeds",
    "best": "Best",
    "truncation": "Truncation",
    "layers": "Layers",
    "mode": "Mode",
    "weight": "Weight",
    "recipe": "Recipe",
    "steps": "Steps",
    "space": "Space",
    "frames": "Frames",
    "critics": "Critics",
    "align": "Alignment",
    "network": "Network",
    "add": "an attribute's slider",
    "remove": "an attribute's slider",
    "samples": "Samples",
    "photo": "Photo",
    "target": "Photo",
    "noise_mode": "noise",
    "pairs": "Pairs",
}
_FIELD = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
_PLACE = re.compile(r"\S*/facegan-app-\S*/")  # the page's own folders mean nothing to a visitor
_LAST = ("out", "device", "cuda_graphs")  # in a command line
STOPPED = "stopped"


class PageError(Exception):
    """A sentence for the visitor; whatever caused it is told, or is no fault of the page's."""


def plain(sentence: str) -> str:
    """A sentence of the library with the page's labels in place of fields: "`cols` is missing" -> "Columns is missing"."""

    def label(match: re.Match[str]) -> str:
        name = LABELS.get(match[1], match[1])
        return name if match[2] is None else f"{name} {match[2]}"

    return _FIELD.sub(label, _PLACE.sub("", sentence)).replace("`", "")


def explained(error: BaseException) -> str | None:
    """The sentence for an error that is not ours; None for one that may be."""
    if isinstance(error, Stopped):
        return STOPPED
    if isinstance(error, (FaceganError, PageError)):
        return plain(str(error))
    if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory(error):
        return "There is not enough memory for this: ask for fewer or smaller images at once."
    if isinstance(error, OSError) and error.strerror:
        return f"A file could not be read or written ({error.strerror}): make room, or look at the terminal of facegan app."
    return None


@contextmanager
def told() -> Iterator[None]:
    """Whatever a visitor can cause becomes a `PageError`, the rest goes on as it is."""
    try:
        yield
    except PageError:
        raise
    except Exception as error:
        sentence = explained(error)
        if sentence is None:
            raise
        raise PageError(sentence) from None


# --- as a command


def command(name: str, options: Options) -> str:
    """The command line of what `options` ask for, without what is the default anyway."""
    words, places = [], []
    for item in sorted(fields(options), key=lambda item: _LAST.index(item.name) if item.name in _LAST else -1):
        value, about = getattr(options, item.name), item.metadata
        if "place" in about:
            places += [str(each) for each in value] if isinstance(value, tuple) else [str(value)] * bool(value)
            continue
        if value == item.default and not about.get("required"):
            continue
        words += flags(item.name, value, about)
    return joined(["facegan", *name.split(), *places, *words])


def joined(words: Sequence[str]) -> str:
    """As a shell reads it."""
    return shlex.join(words)


def flags(name: str, value: Any, about: Mapping[str, Any]) -> list[str]:
    """A field as the words of its flag."""
    flag = "--" + name.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple) and about.get("nargs"):
        return [flag, *map(str, value)]
    if isinstance(value, tuple):
        value = ranges(value) if name == "seeds" else ",".join(map(_number, value))
    text = _number(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _number(value: Any) -> str:
    """As a person writes it, and no digit is lost."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def ranges(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> `0-2,5`"""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] + 1 == number:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
