"""How two styles become one: per layer of W how much of the column's style joins the row's, and where in the image.

Layers are numbered as the styles of W are, 0 to num_ws - 1, from the 4 px constant to the last toRGB.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from facegan.data.formats import open_image
from facegan.errors import FaceganError
from facegan.files import quoted, read_json, write_whole
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.options import Mode
from facegan.schema import checked

MODES: tuple[Mode, ...] = get_args(Mode)
MOST_WEIGHT = 1000  # in amount
LARGEST = 1 << 20  # bytes of a recipe
SIDE = 128  # pixels that a recipe keeps of a mask
START_SIZES = (32, 64)  # attribute 2 starts from the layers of these sizes

Channels = tuple[tuple[str, int], ...]  # of style space: layer, such as b8.conv0 or b8.torgb, and channel


@dataclass(frozen=True)
class Mask:
    """A mask as a recipe holds it."""

    name: str
    png: str  # base64 of an 8-bit grey PNG, `SIDE` pixels a side or less

    @classmethod
    def of(cls, name: str, values: Tensor) -> Mask:
        """Values [S, S] in [0, 1]; what is larger than `SIDE` is averaged down to it, and all is rounded to 255 steps."""
        small = F.adaptive_avg_pool2d(values[None], min(SIDE, values.shape[0]))[0]
        data = io.BytesIO()
        Image.fromarray(small.clamp(0, 1).mul(255).round().byte().numpy()).save(data, "PNG", optimize=True)
        return cls(name, base64.b64encode(data.getvalue()).decode())

    def values(self) -> Tensor:
        """float32 [S, S] in [0, 1].

        Raises:
            FaceganError: what stands in `png` is no such picture.
        """
        try:
            with open_image(base64.b64decode(self.png, validate=True)) as picture:
                if picture.mode != "L" or picture.width != picture.height or not 4 <= picture.width <= SIDE:
                    raise ValueError
                return torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
        except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError):
            raise FaceganError(
                f"the mask {quoted(self.name, 40)} is damaged: expected a square grey PNG of 4 to {SIDE} pixels in base64"
            ) from None

    def at(self, resolution: int) -> Tensor:
        """float32 [1, 1, resolution, resolution] in [0, 1]: averaged where it is larger, else interpolated."""
        return resized(self.values(), resolution)[None, None]


def resized(values: Tensor, resolution: int) -> Tensor:
    """[S, S] -> [resolution, resolution]"""
    if values.shape[0] >= resolution:
        return F.adaptive_avg_pool2d(values[None], resolution)[0]
    size = (resolution, resolution)
    return F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0].clamp(0, 1)


@dataclass(frozen=True)
class Recipe:
    """One weight per layer; what a weight means is the mode's matter. So say where the column goes: a mask, channels, or both.

    crossover: the layer's style is the row's (0) or the column's (1), Karras et al. 2019, section 3.1.
    interpolate: row + weight * (column - row); beyond 1 it overshoots.
    arithmetic: row + weight * (column - w_avg): what the column has beyond the mean face is added to the row.
    regional: as interpolate, where the mask is; elsewhere every layer keeps the row's style. The other modes take a mask as well.
    stylespace: as interpolate, in `channels` of style space (Wu et al. 2021); all others keep the row's scale, in the whole image or under
        the mask. The other modes take channels as well.

    `average` draws the columns to their mean first: 0 leaves each its own, at 1 all are the mean, and `arithmetic` adds a direction.
    """

    mode: Mode
    weights: tuple[float, ...]
    mask: Mask | None = None
    average: float = 0.0
    channels: Channels = ()  # none: all

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise FaceganError(f"mode of mixing is {quoted(self.mode)}; expected one of {', '.join(MODES)}.")
        if not self.weights or not all(type(weight) in (int, float) and abs(weight) <= MOST_WEIGHT for weight in self.weights):
            wrong = [weight for weight in self.weights if not (type(weight) in (int, float) and abs(weight) <= MOST_WEIGHT)]
            found = f"weights of mixing hold {quoted(wrong[0])}" if wrong else "there are no weights of mixing"
            raise FaceganError(f"{found}; expected one number per layer, from {-MOST_WEIGHT} to {MOST_WEIGHT}.")
        if self.mode == "regional" and self.mask is None:
            raise FaceganError("mode of mixing is regional, and there is no mask that says where; give `mask`.")
        if self.mode == "stylespace" and not self.channels:
            raise FaceganError("mode of mixing is stylespace, and there are no channels that it could take; give `channels`.")
        refuse_no_channels(self.channels)
        if not (type(self.average) in (int, float) and 0 <= self.average <= 1):
            raise FaceganError(f"average of columns is {quoted(self.average)}; expected a number from 0 to 1.")
        if self.mode == "crossover" and not set(self.weights) <= {0, 1}:
            other = next(weight for weight in self.weights if weight not in (0, 1))
            raise FaceganError(f"crossover takes weights 0 and 1, not {other:g}; `mode` interpolate takes any.")

    @property
    def layers(self) -> list[int]:
        """The layers that the column has a part in."""
        return [layer for layer, weight in enumerate(self.weights) if weight]

    def describe(self) -> str:
        """`interpolate 4-6, 8:0.5 under beard`: layers of weight 1 in ranges, the others with their weight."""
        parts: list[tuple[int, int, float]] = []  # first, last, weight
        for layer in self.layers:
            weight = self.weights[layer]
            if parts and parts[-1][1:] == (layer - 1, weight):
                parts[-1] = (parts[-1][0], layer, weight)
            else:
                parts.append((layer, layer, weight))
        texts = [(f"{a}" if a == b else f"{a}-{b}") + ("" if weight == 1 else f":{weight:g}") for a, b, weight in parts]
        where = (f" under {self.mask.name}" if self.mask else "") + (f" in {len(self.channels)} channels" if self.channels else "")
        averaged = f", columns {self.average:g} to their mean" if self.average else ""
        return f"{self.mode} {', '.join(texts) or 'of no layer'}{where}{averaged}"

    def to_json(self) -> dict[str, Any]:
        """What recipe.json holds."""
        record: dict[str, Any] = {"mode": self.mode, "weights": list(self.weights)}
        if self.mask:
            record["mask"] = asdict(self.mask)
        if self.average:
            record["average"] = self.average
        if self.channels:
            record["channels"] = [list(channel) for channel in self.channels]
        return record

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(self.to_json()) + "\n")

    @classmethod
    def read(cls, path: str | Path, num_ws: int, config: StyleGAN2Config | None = None) -> Recipe:
        """A recipe that `write` wrote, for a network of `num_ws` styles, whose `config` knows its channels."""
        try:
            recipe: Recipe = checked(read_json(Path(path), LARGEST), cls, path)
            if recipe.mask:
                recipe.mask.values()  # a damaged one is told before minutes of work
        except FaceganError as error:
            raise FaceganError(f"{path} is no recipe ({error}); expected what `facegan mix-search` writes.") from None
        if len(recipe.weights) != num_ws:
            held = len(recipe.weights)
            raise FaceganError(f"{path} is for networks of {held} styles, this one has {num_ws}: search again, or give `layers`.")
        if config:
            refuse_other_channels(recipe.channels, config, path)
        return recipe


@dataclass(frozen=True, eq=False)
class Mixture:
    """What is drawn: the styles of N faces, and those that hold where a mask is, in some channels, or both."""

    ws: Tensor  # [N, num_ws, w_dim]
    others: Tensor | None = None  # the same
    mask: Tensor | None = None  # [1, 1, R, R]; None: everywhere
    channels: Channels = ()  # none: all

    def __len__(self) -> int:
        return len(self.ws)

    def split(self, batch: int) -> Iterator[Mixture]:
        """Parts of at most so many faces."""
        others = [None] * -(-len(self) // batch) if self.others is None else self.others.split(batch)
        for ws, other in zip(self.ws.split(batch), others, strict=True):
            yield replace(self, ws=ws, others=other)


def mixture(rows: Tensor, columns: Tensor, recipe: Recipe, w_avg: Tensor, resolution: int, mean: Tensor | None = None) -> Mixture:
    """Styles [N, num_ws, w_dim] of both, which broadcast -> the faces of a recipe; `mean` is that of all columns, [num_ws, w_dim]."""
    if recipe.average:
        columns = torch.lerp(columns, columns.flatten(0, -3).mean(0) if mean is None else mean, recipe.average)
    styles = mixed(rows, columns, recipe, w_avg)
    if recipe.mask is None and not recipe.channels:
        return Mixture(styles)
    mask = None if recipe.mask is None else mask_at(recipe.mask, resolution)
    return Mixture(rows.expand(styles.shape), styles, mask, recipe.channels)


@lru_cache(16)
def mask_at(mask: Mask, resolution: int) -> Tensor:
    """[1, 1, R, R], which nobody may change."""
    return mask.at(resolution)


@lru_cache(16)
def channel_gains(channels: Channels, config: StyleGAN2Config) -> Tensor:
    """float32 [num_style_channels], which nobody may change: 1 for these channels, 0 for the others."""
    refuse_other_channels(channels, config, "the recipe")
    gains = {layer: torch.zeros(count) for layer, count in config.style_channels.items()}
    for layer, channel in channels:
        gains[layer][channel] = 1
    return torch.cat([*gains.values()])


def refuse_no_channels(channels: object) -> None:
    """Raises FaceganError for anything but a tuple of layers and channels, each once."""
    known = set[tuple[str, int]]()
    for each in channels if isinstance(channels, tuple) else [channels]:
        if not (isinstance(each, tuple) and [type(part) for part in each] == [str, int]):
            raise FaceganError(f"channels of mixing hold {quoted(each, 40)}; expected a tuple of pairs such as ('b8.conv0', 76).")
        if each in known:
            raise FaceganError(f"channels of mixing name channel {each[1]} of {quoted(each[0], 40)} twice; expected each once.")
        known.add(each)


def refuse_other_channels(channels: Channels, config: StyleGAN2Config, where: object) -> None:
    """Raises FaceganError where one of them is none of this network's."""
    counts = config.style_channels
    for layer, channel in channels:
        if not 0 <= channel < counts.get(layer, 0):
            held = f"{counts[layer]} channels" if layer in counts else f"layers {', '.join(counts)}"
            raise FaceganError(f"{where} names channel {channel} of {quoted(layer, 40)}, where this network has {held}: find its own by "
                               "`facegan styles channels`")  # fmt: skip


def mixed(row: Tensor, column: Tensor, recipe: Recipe, w_avg: Tensor) -> Tensor:
    """Styles [..., num_ws, w_dim] of both, which broadcast, and the mean style [w_dim] -> styles of the same shape, for under the mask
    and in the channels where the recipe has some.

    A layer's scales are affine in w, so that what is mixed here is mixed alike in style space.

    Weights 0 and 1 of all modes but `arithmetic` give the row's and the column's very numbers: `lerp` is exact at both ends.
    """
    if len(recipe.weights) != row.shape[-2] or row.shape[-2:] != column.shape[-2:]:
        raise FaceganError(
            f"styles are {list(row.shape[-2:])} and {list(column.shape[-2:])}, and the recipe has {len(recipe.weights)} weights; "
            "expected styles of one network, and a weight for each of its layers."
        )
    weights = torch.tensor(recipe.weights, dtype=row.dtype, device=row.device)[:, None]
    if recipe.mode == "arithmetic":
        return row + weights * (column - w_avg)
    return torch.lerp(*torch.broadcast_tensors(row, column, weights))


# --- layers as users write them


def layer_sizes(config: StyleGAN2Config) -> list[int]:
    """Pixels of the layer that each style goes to first; a style left over is the last toRGB's."""
    sizes = [size for size in config.sizes for _ in range(config.layers(size))]
    return sizes + [config.resolution] * (config.num_ws - len(sizes))


def parse_layers(text: str, config: StyleGAN2Config) -> list[int]:
    """`4-7`, `4,6`, `all`, or by size: `32-64px`, `16px`; also joined by commas."""
    if text.strip() == "all":
        return list(range(config.num_ws))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?(px)?", part.strip(), re.ASCII)
        if not match:
            raise FaceganError(f"`layers` is {text[:60]!r}: expected layers such as 4-7 or 4,6, sizes such as 32-64px, or all")
        low, high = int(match[1]), int(match[2] or match[1])
        numbers = layer_sizes(config) if match[3] else range(config.num_ws)
        found = [layer for layer, number in enumerate(numbers) if low <= number <= high]
        if not (set(numbers) >= {low, high} and found):
            raise FaceganError(
                f"`layers` asks for {part.strip()}, but this network has layers 0 to {config.num_ws - 1}, "
                f"of sizes 4px to {config.resolution}px (powers of two): name a range within"
            )
        layers.update(found)
    return sorted(layers)


def parse_weights(text: str, config: StyleGAN2Config) -> tuple[float, ...]:
    """`4:0.5,5-7:1,64px:0.25` -> one weight per layer, 0 where none is given; the last word counts."""
    weights = [0.0] * config.num_ws
    for part in text.split(","):
        layers, colon, number = part.partition(":")
        try:
            weight = float(number) if colon else math.nan
        except ValueError:
            weight = math.nan
        if not abs(weight) <= MOST_WEIGHT:
            raise FaceganError(f"`weights` is {text[:60]!r}: expected layer:weight pairs such as 4:0.5,5-7:1")
        for layer in parse_layers(layers, config):
            weights[layer] = weight
    return tuple(weights)


def start_layers(config: StyleGAN2Config) -> tuple[str, list[int]]:
    """Where attribute 2 goes unless told otherwise: the layers of 32-64 px, or in smaller networks those of the two
    largest sizes, which are as large a share of theirs; as a user would write them, and as numbers."""
    high = min(START_SIZES[1], config.resolution)
    text = f"{max(4, high * START_SIZES[0] // START_SIZES[1])}-{high}px"
    return text, parse_layers(text, config)


def uniform(
    mode: Mode, layers: Sequence[int], num_ws: int, weight: float = 1.0, mask: Mask | None = None, channels: Channels = ()
) -> Recipe:
    """One weight on these layers, 0 on the others."""
    return Recipe(mode, tuple(weight if layer in layers else 0.0 for layer in range(num_ws)), mask, channels=channels)
