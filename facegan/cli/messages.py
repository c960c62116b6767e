"""What the library says, as a user of the command line reads it: a field is written as its flag."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterable

_FIELD = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def flag_of(field: str) -> str:
    """`noise_mode` -> `--noise-mode`; a field is called `from_` where its flag is a word of Python."""
    return f"--{field.rstrip('_').replace('_', '-')}"


def with_flags(text: str, fields: Iterable[str]) -> str:
    """ "`r1_gamma=5` ..., `out`" -> "--r1-gamma 5 ..., --out", for the names among `fields`; other words in backticks stay.

    A switch is written as it is typed: "`modulate=False`" -> "--no-modulate".
    """
    known = frozenset(fields)

    def flag(match: re.Match[str]) -> str:
        if match[1] not in known:
            return match[0]
        if match[2] in ("True", "False"):
            return flag_of(match[1] if match[2] == "True" else f"no_{match[1]}")
        return flag_of(match[1]) + (f" {match[2]}" if match[2] is not None else "")

    return _FIELD.sub(flag, text)


def fields_of(parser: argparse.ArgumentParser) -> set[str]:
    """The fields that a parser and those of its commands fill."""
    found: set[str] = set()
    for action in parser._actions:
        found.add(action.dest)
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                found |= fields_of(each)
    return found


class FlagFormatter(logging.Formatter):
    """Log lines with flags in place of fields."""

    def __init__(self, fields: Iterable[str]) -> None:
        super().__init__("%(message)s")
        self.fields = frozenset(fields)

    def format(self, record: logging.LogRecord) -> str:
        """The line, its fields as flags."""
        return with_flags(super().format(record), self.fields)
