"""The configuration of a run: one frozen dataclass a method, one line per field, recipes as differences from it.

The command line is made from the fields, so that a flag, its default and its help cannot drift apart. Here is what all methods
share; `config_a`, `config_b` and `config_restore` hold their own fields.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypedDict

from facegan.devices import AUTO, HELP, check_device
from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.schema import checked

METHODS = ("a", "b", "restore")
RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)


MOST = 1e9  # of any number that a flag takes: beyond it float32 overflows in the networks


def finite(text: str) -> float:
    """The type of flags that take a number: no nan, no infinity. (`TrainConfig.check` refuses these by itself.)"""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from {-MOST:g} to {MOST:g}")
    return value


def option(default: Any, help: str, choices: tuple[str, ...] | None = None, group: str = "run") -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "group": group})


@dataclass(frozen=True)
class TrainConfig:
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}

    # --- run
    out: str = option("", "folder of the run; the same command again resumes it")
    data: str = option("synthetic", "folder or .zip of labelled faces (see `facegan data inspect`), or 'synthetic'")
    attributes: str = option(
        "bald,beard", "attributes the faces shall carry together, in order; built-in names, columns, or name=SELECTOR/SELECTOR"
    )
    resolution: int = option(64, f"image size in pixels: {', '.join(map(str, RESOLUTIONS[:-1]))} or {RESOLUTIONS[-1]}")
    method: str = option(
        "a",
        "a: three-phase GAN with AdaIN merge; b: StyleGAN2-ADA, whose styles are then mixed; restore: a network that sharpens faces. `--method b --help` lists b's flags, and so on",
        METHODS,
    )
    seed: int = option(0, "every random number of the run is a function of it")
    num: int = option(8000, "faces to render when --data is 'synthetic'")
    batch: int = option(32, "images a step, over all processes together")
    minimum_images: int = option(16, "fewest images of each attribute that training accepts")
    mixed_precision: str = option("no", "arithmetic of the networks; R1 and path length stay in fp32", ("no", "bf16"))
    device: str = option(AUTO, HELP)
    cuda_graphs: str = option(
        "auto",
        "replay steps as CUDA graphs, which the host launches in one call each; auto: with one process on a CUDA device",
        ("auto", "on", "off"),
    )
    compile: bool = option(False, "torch.compile the passes of which no second derivative is taken; the first steps then take minutes")
    snapshot_every: int = option(
        0, "steps between sample grids and checkpoints; 0: twenty a stage, at least every 200 steps (StyleGAN2: 1000)"
    )
    log_every: int = option(20, "steps between rows of metrics.jsonl")
    keep_checkpoints: int = option(2, "checkpoints kept, newest first")
    # --- length: an epoch is --images-per-epoch images
    images_per_epoch: int = option(0, "images in an epoch; 0: the size of the smallest attribute's set", group="length")
    # --- optimisation
    lr: float = option(4e-3, "Adam's learning rate (equalised layers)", group="optimisation")
    beta1: float = option(0.0, "Adam's beta 1", group="optimisation")
    beta2: float = option(0.99, "Adam's beta 2", group="optimisation")
    r1_every: int = option(4, "steps between R1 penalties, each weighted by that number", group="optimisation")

    def to_json(self) -> dict:
        return asdict(self)

    def check(self) -> None:
        """Raises FaceganError for values that make no sense, before any work is done."""
        if not self.out:
            raise FaceganError("--out is missing: name the folder of the run, e.g. --out runs/first")
        if self.resolution not in RESOLUTIONS:
            raise FaceganError(f"--resolution is {self.resolution}: expected {', '.join(map(str, RESOLUTIONS[:-1]))} or {RESOLUTIONS[-1]}")
        check_device(self.device)
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not abs(value) <= MOST:
                raise FaceganError(f"--{item.name.replace('_', '-')} is {value}: expected a number up to {MOST:g}")
        self.at_least(1, "batch", "log_every", "r1_every", "keep_checkpoints", "minimum_images")
        self.at_least(0, "images_per_epoch", "snapshot_every", "seed", "num", "lr")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise FaceganError(f"--{name} is {getattr(self, name)}: expected 0 to below 1")

    @property
    def may_grow(self) -> frozenset[str]:
        """Lengths that may change from one call to the next, also when the run has ended: no step computes otherwise for it."""
        return frozenset({"kimg"})

    def at_least(self, least: int, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= least:  # so that NaN is refused too
                expected = "at least 1" if least else "0 or more"
                raise FaceganError(f"--{name.replace('_', '-')} is {getattr(self, name)}: expected {expected}")

    def shares(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise FaceganError(f"--{name.replace('_', '-')} is {getattr(self, name)}: expected 0 to 1")


@dataclass(frozen=True)
class CriticConfig(TrainConfig):
    """Of the methods that make attributes: they have critics, and labels to ask for."""

    # --- length
    phase2_epochs: int = option(60, "phase 2: most epochs of a critic (it stops early)", group="length")
    # --- networks
    width: float = option(1.0, "width of Method A's networks and of the critics (1: 128 maps at 8 px, 16 at 64 px)", group="networks")
    conditional: bool = option(False, "feed the attribute vector y to generator and discriminators", group="networks")
    # --- critics: whether a face has an attribute, as the generator's side sees it
    blurry_negatives: bool = option(
        True, "show the critics blurred, noisy and (of phase 1) badly generated faces as negatives", group="critics"
    )
    critics: str = option("previous", "critics for attributes 1..K-1 (as the source) or for all", ("previous", "all"), group="critics")
    critic_views: int = option(1, "differentiable views over which a critic's score is averaged", group="critics")
    critic_gradient_penalty: float = option(0.0, "R1 penalty on the critics, which makes them harder to fool", group="critics")
    critic_lr: float = option(0.0, "the critics' learning rate; 0: that of --lr", group="critics")
    patience: int = option(8, "validations without a better balanced accuracy before a critic stops", group="critics")

    def check(self) -> None:
        super().check()
        self.at_least(1, "critic_views", "patience")
        self.at_least(0, "phase2_epochs", "critic_gradient_penalty", "critic_lr", "width")


def config_class(method: str) -> type[TrainConfig]:
    from facegan.training.config_a import MethodAConfig
    from facegan.training.config_b import MethodBConfig
    from facegan.training.config_restore import RestoreConfig

    return {"a": MethodAConfig, "b": MethodBConfig, "restore": RestoreConfig}[method]


def named_method(arguments: Sequence[str]) -> str:
    """The method that a command line asks for, so that the parser can have that method's flags."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method", choices=METHODS, default="a")
    return finder.parse_known_args(arguments)[0].method


def numbers(text: str, name: str, kind: type, count: int | None = None) -> list:
    """`"1,1,0.1"` -> [1.0, 1.0, 0.1]."""
    try:
        values = [finite(part) if kind is float else kind(part) for part in text.split(",")]
    except (ValueError, argparse.ArgumentTypeError):
        words = f"whole numbers up to {MOST:g}" if kind is int else f"numbers up to {MOST:g}"
        raise FaceganError(f"--{name.replace('_', '-')} is {quoted(text)!r}: expected {words}, joined by commas") from None
    if count is not None and len(values) != count:
        raise FaceganError(f"--{name.replace('_', '-')} is {text!r}: expected {count} numbers, got {len(values)}")
    return values


def add_arguments(parser: argparse.ArgumentParser, method: str = "a") -> None:
    """One flag per field, in the fields' groups; absent flags stay absent, so that a recipe can tell."""
    groups: dict[str, Any] = {}
    config = config_class(method)
    for item in fields(config):
        name = item.metadata["group"]
        group = groups.setdefault(name, None) or parser.add_argument_group(name)
        groups[name] = group
        flag, text = "--" + item.name.replace("_", "-"), item.metadata["help"].replace("%", "%%")
        text += "" if item.default == "" else f" (default: {item.default}{recipe_notes(config, item.name)})"
        common = dict(dest=item.name, default=argparse.SUPPRESS, help=text)
        if isinstance(item.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            kind = type(item.default)
            metavar = None if item.metadata["choices"] else kind.__name__.upper().replace("STR", "TEXT")
            group.add_argument(flag, type=kind, choices=item.metadata["choices"], metavar=metavar, **common)


def recipe_notes(config: type[TrainConfig], name: str) -> str:
    notes = [f"{recipe}: {values[name]}" for recipe, values in config.RECIPES.items() if name in values]
    return "; " + ", ".join(notes) if notes else ""


def from_arguments(values: dict[str, Any]) -> TrainConfig:
    """The method's defaults, then its recipe, then what the user typed; checked."""
    config = config_class(values.get("method", "a"))()
    recipe = getattr(config, "recipe", None)
    if recipe is not None:
        values = {"recipe": recipe, **values}
        values = {**config.RECIPES[values["recipe"]], **values}
    config = replace(config, **values)
    config.check()
    return config


class _Named(TypedDict):
    method: Literal["a", "b", "restore"]


def from_json(values: dict[str, Any], where: object = "the configuration") -> TrainConfig:
    """What `to_json` gave, checked; `where` is named in the FaceganError on anything else, such as a record of another version."""
    config: TrainConfig = checked(values, config_class(checked(values, _Named, where)["method"]), where)
    try:
        config.check()
    except FaceganError as error:
        raise FaceganError(f"{where}: {error}") from None
    return config
