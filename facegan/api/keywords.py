"""Methods whose keywords are the fields of an options class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from facegan.config import Options
from facegan.errors import FaceganError

R = TypeVar("R")


def takes(options: type[Options], *positional: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Have a method that is written for an options object take its fields: those named `positional` in this order, all as keywords.

    The method's own further parameters are keywords as they are. Its signature and documentation tell all of them.

    Raises:
        FaceganError: by the method, for keywords that it does not know.
    """

    def wrap(method: Callable[..., R]) -> Callable[..., R]:
        own = list(inspect.signature(method).parameters.values())[2:]  # after self and the options

        @functools.wraps(method)
        def call(self: Any, *args: Any, **keywords: Any) -> R:
            if len(args) > len(positional) or {*positional[: len(args)]} & {*keywords}:
                raise FaceganError(f"{method.__name__}: expected at most {', '.join(positional) or 'nothing'} without names, each once")
            values = dict(zip(positional, args, strict=False)) | keywords
            extra = {each.name: values.pop(each.name) for each in own if each.name in values}
            return method(self, options(**values), **extra)

        kinds = inspect.Parameter
        by_name = {item.name: item for item in fields(options)}
        names = [*positional, *(name for name in by_name if name not in positional)]
        parameters = [kinds("self", kinds.POSITIONAL_OR_KEYWORD)] + [
            kinds(name, kinds.POSITIONAL_OR_KEYWORD if name in positional else kinds.KEYWORD_ONLY,
                  default=by_name[name].default, annotation=by_name[name].type)
            for name in names
        ] + [each.replace(kind=kinds.KEYWORD_ONLY) for each in own]  # fmt: skip
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        lines = [f"    {name}: {by_name[name].metadata['help']}" for name in names]
        call.__doc__ = f"{inspect.cleandoc(method.__doc__ or '')}\n\nArgs:\n" + "\n".join(lines)
        return call

    return wrap
