"""What the options of several commands have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from facegan.config import Options, option
from facegan.devices import AUTO, HELP
from facegan.errors import FaceganError

SYNTHETIC = "synthetic64"  # StyleGAN2 of synthetic faces, 64 px, with named styles: bald, beard
RESTORER = "synthetic256"  # restorer of synthetic faces, from 64 to 256 px
BLURRED = 0.35  # sharpness below which a face is blurred at the size at which it is looked at (docs/data.md)
DUPLICATE_BITS = 40  # of the 288 of a perceptual hash, in which two pictures of one moment differ at most (docs/data.md)
MOST_SEEDS, LARGEST_SEED = 100_000, 2**32 - 1  # what memory holds, what RandomState takes

Align = Literal["auto", "on", "off"]
FacesOf = Literal["auto", "one", "all"]
Graphs = Literal["auto", "on", "off"]
Mode = Literal["crossover", "interpolate", "arithmetic", "regional", "stylespace"]
NoiseMode = Literal["const", "random", "none"]
Space = Literal["w", "w+"]
STYLE_FILES = ".npz files, folders of them, or .npy and .pt of other projects"
STYLES = "seeds (3, 0-7), .npz files, folders of them, .npy or .pt of other projects, or names of styles"


def parse_seeds(text: str, what: str = "`seeds` is") -> tuple[int, ...]:
    """`"0-3,7"` -> (0, 1, 2, 3, 7); `what` begins the sentence on a text that means no seeds."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip(), re.ASCII)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, LARGEST_SEED + 1)
        if high > LARGEST_SEED:
            raise FaceganError(f"{what} {text[:60]!r}: expected numbers and ranges such as 0-63 or 1,5,9, up to {LARGEST_SEED}")
        ranges.append(range(low, high + 1))
    count = sum(map(len, ranges))
    if not 0 < count <= MOST_SEEDS:
        raise FaceganError(f"{what} {text[:60]!r}, {count} faces: expected 1 to {MOST_SEEDS} in one call")
    return tuple(seed for part in ranges for seed in part)


@dataclass(frozen=True)
class Compute(Options):
    """Where a command computes, and how its work is launched."""

    device: str = option(AUTO, HELP)
    cuda_graphs: Graphs = option("auto", "launch what repeats as CUDA graphs; auto: on a GPU")


@dataclass(frozen=True)
class Network(Compute):
    """A StyleGAN2 network, and where it computes."""

    network: str = option(SYNTHETIC, "run of `train --method b`, folder of `facegan convert`, StyleGAN2 .pkl or .pt, hub:OWNER/NAME, or the"
                          " name of one that comes with the package")  # fmt: skip


@dataclass(frozen=True)
class Projecting(Options):
    """How photos become styles."""

    space: Space = option("w", "w: one style for all layers, mixes best; w+: one for each layer, nearer to the photo")
    steps: int = option(1000, "steps of the optimiser")
    seed: int = option(0, "of the noise that the optimiser adds")
    prior: float = option(0.0003, "how strongly a style is held to those that the network knows: more looks better, less is nearer to the "
                                 "photo; 0: not at all")  # fmt: skip
    align: Align = option("auto", "on: cut the largest face out of each photo as FFHQ's are, by facegan[align]; auto: where that is "
                                  "installed and the face is elsewhere; off: take the central square")  # fmt: skip


def of(options: Options, kind: type[Options]) -> dict[str, Any]:
    """The fields that `options` shares with a class that it extends, for the method that takes them."""
    return {item.name: getattr(options, item.name) for item in fields(kind)}
