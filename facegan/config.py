"""Options as frozen dataclasses, one field each, and those that every training has.

Parsers, help, config.json and the keywords of the Python API are made from the fields, so that they cannot drift apart. The fields of
one method are in `facegan/methods/<method>/config.py`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from facegan.devices import AUTO, HELP, check_device
from facegan.errors import FaceganError
from facegan.schema import checked
from facegan.threads import AUTO as THREADS
from facegan.threads import HELP as THREADS_HELP
from facegan.threads import check_threads

RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)
MOST = 1e9  # of any number that an option takes: beyond it float32 overflows in the networks


def option(default: Any, help: str, choices: Any = None, group: str = "", **more: Any) -> Any:
    """A field of an options class.

    Args:
        help: a sentence; fields in backticks are written as flags where flags are what is typed.
        choices: its only values, for a field whose type does not say.
        group: the heading that it is listed under.
        more: for the parser. `metavar` stands for the value, `place` makes it a positional of that name, `nargs` lets it take several
            words, `required` makes it indispensable, `parse` reads a tuple's text, `also` are more names for the flag, `shown` is the
            default as a person would write it.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "group": group, **more})


def listed(items: str | Sequence[str], mark: str = ",") -> tuple[str, ...]:
    """The items of a list that is written as one text, split at `mark` outside double quotes; a sequence as it is."""
    if not isinstance(items, str):
        return tuple(items)
    parts = [""]
    for piece in re.findall(r'"[^"]*"?|[^"]', items):
        if piece == mark:
            parts.append("")
        else:
            parts[-1] += piece
    return tuple(part.strip() for part in parts)


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def size_of(text: str, name: str) -> int:
    """Bytes that a text such as `16GiB`, `500 MB` or `1000000` means; raises FaceganError for others, with the option's `name`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(I?B)?", text.strip().upper(), re.ASCII)
    unit = "" if match is None else match[2] + "B" * (match[3] == "B" and bool(match[2]))
    if match is None:
        raise FaceganError(f"`{name}` is {text[:60]!r}: expected a size, such as 16GiB, 500MB or 0")
    return int(float(match[1]) * _UNITS[unit])


_kinds = functools.cache(get_type_hints)  # name -> type, of a class


def _plain(value: Any, kind: Any, about: Mapping[str, Any], name: str) -> Any:
    """`value` in the form in which JSON, with tuples, has what a field of type `kind` takes."""
    value = value.tolist() if hasattr(value, "tolist") else str(value) if isinstance(value, Path) else value  # numpy's, as numbers
    if get_origin(kind) is not tuple:
        return str(value) if kind is str and type(value) is int else value
    if isinstance(value, str) and not about.get("nargs"):
        of, count, text = get_args(kind)[0], len(get_args(kind)), value
        value = about["parse"](text) if "parse" in about else listed(text)
        if get_args(kind)[-1] is not Ellipsis and len(value) != count:
            raise FaceganError(f"{name} is {text[:60]!r}: expected {count} numbers, got {len(value)}")
        try:
            return tuple(value) if of is str else tuple(map(of, value))
        except ValueError:
            raise FaceganError(f"{name} is {text[:60]!r}: expected numbers joined by commas") from None
    items = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return tuple(str(each) if isinstance(each, Path) else each for each in items)


class _RecipesFirst(type):
    """Calls of a class take what is not given from the recipe that is named, so that an object is what its recipe says."""

    RECIPES: dict[str, dict[str, Any]]
    __dataclass_fields__: dict[str, dataclasses.Field[Any]]

    def __call__(cls, *args: Any, **values: Any) -> Any:
        recipes, known = cls.RECIPES, cls.__dataclass_fields__.keys()
        for name in values.keys() - known:
            nearest = ", ".join(f"`{each}`" for each in difflib.get_close_matches(name, known, cutoff=0.0))
            raise FaceganError(f"`{name}` is no option here: expected others, such as {nearest}")
        if recipes and not args:
            name = values.get("recipe", cls.__dataclass_fields__["recipe"].default)
            if name not in recipes:
                raise FaceganError(f"`recipe` is {name!r}: expected one of {', '.join(recipes)}")
            values = {**recipes[name], **values}
        return super().__call__(*args, **values)


@dataclass(frozen=True)
class Options(metaclass=_RecipesFirst):
    """Base of all options: every value is of its field's type. Paths become texts, sequences tuples, and the text of a list that list."""

    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        kinds = _kinds(type(self))
        for item in fields(self):
            kind, about, name = kinds[item.name], item.metadata, f"`{item.name}`"
            value = checked(_plain(getattr(self, item.name), kind, about, name), kind, "", name)
            if about["choices"] and value not in about["choices"]:
                raise FaceganError(f"{name} is {value[:60]!r}: expected one of {', '.join(about['choices'])}")
            if any(isinstance(number, float) and abs(number) > MOST for number in (value if isinstance(value, tuple) else (value,))):
                raise FaceganError(f"{name} is {value}: expected numbers from {-MOST:g} to {MOST:g}")
            object.__setattr__(self, item.name, value)

    def to_json(self) -> dict[str, Any]:
        """Every field by its name, in the types of JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}

    def at_least(self, least: int, *names: str) -> None:
        """Refuse smaller values, and NaN, of the fields named."""
        for name in names:
            if not getattr(self, name) >= least:  # so that NaN is refused too
                expected = f"at least {least}" if least else "0 or more"
                raise FaceganError(f"`{name}` is {getattr(self, name)}: expected {expected}")

    def fractions(self, *names: str) -> None:
        """Refuse what is not between 0 and 1 in the fields named."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise FaceganError(f"`{name}` is {getattr(self, name)}: expected 0 to 1")


@dataclass(frozen=True)
class TrainConfig(Options):
    """What every training can be told, and every run records."""

    MAKES: ClassVar[str] = "generator"  # "generator", "stylegan2" or "restorer": which reader opens the run

    # --- run
    out: str = option("", "folder of the run; the same command again resumes it")
    data: str = option(
        "synthetic",
        "folder, .zip or WebDataset shards (path, pattern, address) of labelled faces (see `facegan data inspect`), or 'synthetic'",
    )
    attributes: tuple[str, ...] = option(
        ("bald", "beard"), "attributes that faces are to carry together, in order; built-in names, columns, or name=SELECTOR/SELECTOR"
    )
    resolution: int = option(64, f"image size in pixels: {', '.join(map(str, RESOLUTIONS[:-1]))} or {RESOLUTIONS[-1]}")
    method: str = option("", "the method")  # the parser lists all of them
    seed: int = option(0, "every random number of the run is a function of it")
    num: int = option(8000, "faces to render when `data` is 'synthetic'", also=("num_faces",))  # torchrun takes --num for its own
    batch: int = option(32, "images a step, over all processes together")
    minimum_images: int = option(16, "fewest images of each attribute that training accepts")
    mixed_precision: str = option("no", "arithmetic of the networks; R1 and path length stay in fp32", ("no", "bf16"))
    device: str = option(AUTO, HELP)
    threads: str = option(THREADS, THREADS_HELP, metavar="auto|N")
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
    peer_timeout: float = option(20.0, "of several processes: seconds without a sign of life after which one is given up, and all end")
    # --- data: where images are that are not kept decoded
    stream: bool = option(False, "decode images as they are needed; always where, decoded, they would pass `cache_limit`", group="data")
    cache_limit: str = option("16GiB", "most that decoded images may take in the cache", group="data", metavar="SIZE")
    download_limit: str = option("200GiB", "most that shards of an http(s) address may take in the cache", group="data", metavar="SIZE")
    decoders: int = option(0, "processes that decode streamed images; 0: half of the cores, up to 8", group="data")
    # --- length: an epoch is --images-per-epoch images
    images_per_epoch: int = option(0, "images in an epoch; 0: the size of the smallest attribute's set", group="length")
    # --- optimisation
    lr: float = option(4e-3, "Adam's learning rate (equalised layers)", group="optimisation")
    lr_decay: float = option(
        0.0, "share of a training (not the critics') at its end, over which the learning rate falls to 0; it can't be made longer then",
        group="optimisation",
    )  # fmt: skip
    beta1: float = option(0.0, "Adam's beta 1", group="optimisation")
    beta2: float = option(0.99, "Adam's beta 2", group="optimisation")
    r1_every: int = option(4, "steps between R1 penalties, each weighted by that number", group="optimisation")

    def check(self) -> None:
        """Raises FaceganError for values that make no sense, before any work is done."""
        if not self.out:
            raise FaceganError("`out` is missing: name the folder of the run, e.g. `out=runs/first`")
        if self.resolution not in RESOLUTIONS:
            raise FaceganError(f"`resolution` is {self.resolution}: expected {', '.join(map(str, RESOLUTIONS[:-1]))} or {RESOLUTIONS[-1]}")
        if len(self.attributes) < 2:
            raise FaceganError(f"`attributes` is {','.join(self.attributes)}: expected at least two, which faces are to carry together")
        check_device(self.device)
        check_threads(self.threads)
        self.at_least(1, "batch", "log_every", "r1_every", "keep_checkpoints", "minimum_images")
        self.at_least(2, "peer_timeout")
        self.at_least(0, "images_per_epoch", "snapshot_every", "seed", "num", "lr", "decoders")
        self.fractions("lr_decay")
        for name in ("cache_limit", "download_limit"):
            size_of(getattr(self, name), name)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise FaceganError(f"`{name}` is {getattr(self, name)}: expected 0 to below 1")

    @property
    def may_grow(self) -> frozenset[str]:
        """Lengths that may change from one call to the next, also when the run has ended: no step computes otherwise for it."""
        return frozenset({"kimg"} if not self.lr_decay else ())


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
    critic_lr: float = option(0.0, "the critics' learning rate; 0: that of `lr`", group="critics")
    patience: int = option(8, "validations without a better balanced accuracy before a critic stops", group="critics")

    def check(self) -> None:
        super().check()
        self.at_least(1, "critic_views", "patience")
        self.at_least(0, "phase2_epochs", "critic_gradient_penalty", "critic_lr", "width")
