"""The methods by name. Each is one folder: configuration, stages, losses, and a `MethodSpec` that is entered here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.methods.a.spec import METHOD_A
from facegan.methods.b.spec import METHOD_B
from facegan.methods.restore.spec import RESTORE
from facegan.methods.spec import MethodSpec
from facegan.schema import checked

if TYPE_CHECKING:
    from facegan.checkpoints.run import RunFolder

METHODS: dict[str, MethodSpec] = {"a": METHOD_A, "b": METHOD_B, "restore": RESTORE}


def method_named(name: Any) -> MethodSpec:
    """The method of this name; FaceganError where there is none."""
    if name not in METHODS:
        raise FaceganError(f"`method` is {quoted(name)}: expected one of {', '.join(METHODS)}")
    return METHODS[name]


def configured(method: str = "a", **values: Any) -> TrainConfig:
    """A method's configuration, checked: what is not given is its recipe's, or else the default."""
    config = method_named(method).config(method=method, **values)
    config.check()
    return config


def config_of(folder: RunFolder) -> TrainConfig:
    """The whole configuration of a run, of its method's own type, checked."""
    values, where = folder.record()["config"], folder.config_file
    try:
        config: TrainConfig = checked(values, method_named(values.get("method")).config, where)
        config.check()
    except FaceganError as error:
        raise error if str(error).startswith(str(where)) else FaceganError(f"{where}: {error}") from None
    return config
