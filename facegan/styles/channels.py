"""Channels of style space by name: those whose effect lies in an attribute's region, as `learned_channels` ranks them.

Networks keep a file for each attribute in a folder `channels` beside them, `channels/beard.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from facegan.errors import FaceganError
from facegan.files import read_json, write_whole
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.schema import Range, checked
from facegan.styles.recipe import Channels, refuse_no_channels, refuse_other_channels

SUFFIX = ".json"
NUMBER = 80  # of channels that are taken where nobody says
MOST = 200  # that a file keeps
LARGEST = 1 << 20  # bytes of a file


@dataclass(frozen=True)
class Channel:
    """What one channel of style space does for an attribute."""

    layer: str  # such as b8.conv0 or b8.torgb
    channel: Annotated[int, Range(0)]
    inside: Annotated[float, Range(0, 1)]  # share of its energy, |d image / d channel| squared, that lies under the mask
    distance: float  # of the attribute's mean from that of random faces, in their standard deviations
    effect: Annotated[float, Range(0)]  # length of what that distance changes under the mask, to first order


@dataclass(frozen=True)
class Ranking:
    """The channels of an attribute, the best first: by inside * effect."""

    attribute: str
    mask: str  # its name
    faces: Annotated[int, Range(1)]  # at which gradients were taken
    channels: tuple[Channel, ...]

    def first(self, number: int) -> Channels:
        """As a recipe has them; all where there are fewer."""
        return tuple((each.layer, each.channel) for each in self.channels[:number])

    def write(self, path: Path) -> None:
        """One channel a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"attribute": self.attribute, "mask": self.mask, "faces": self.faces}
        lines = ",\n".join(f"  {json.dumps(asdict(each))}" for each in self.channels)
        write_whole(path, f'{json.dumps(head)[:-1]}, "channels": [\n{lines}\n]}}\n')


def channel_folders(styles: str, network: Path) -> list[Path]:
    """Where channels are looked up: in the folder of styles that is named, then beside the network."""
    return [Path(styles) / "channels"] * bool(styles) + [network / "channels"]


def own_channels(folders: Sequence[Path]) -> list[str]:
    """The attributes whose channels are in folders, in the order of the alphabet."""
    return sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob(f"*{SUFFIX}")})


def find_channels(text: str, folders: Sequence[Path], config: StyleGAN2Config) -> Ranking:
    """The ranking that a user means, by path or by the name of one in `folders`.

    Raises:
        FaceganError: there is none, it is damaged, or it is of another network.
    """
    places = [Path(text)] if text.endswith(SUFFIX) else [folder / f"{text}{SUFFIX}" for folder in folders]
    path = next((place for place in places if text and place.is_file()), None)
    if path is None:
        known = own_channels(folders)
        offer = f"one of {', '.join(known[:12])}, or a file" if known else "a file"
        raise FaceganError(f"`channels` is {text[:80]!r}: expected {offer} that `facegan styles channels --attributes NAME` makes")
    return read_channels(path, config)


def read_channels(path: Path, config: StyleGAN2Config) -> Ranking:
    """A file that `Ranking.write` wrote, for a network of this configuration."""
    try:
        ranking: Ranking = checked(read_json(path, LARGEST), Ranking, path)
        if not ranking.channels:
            raise FaceganError("it names no channel")
        refuse_no_channels(ranking.first(MOST))
    except FaceganError as error:
        raise FaceganError(f"{path} is no ranking of channels ({error}); `facegan styles channels` writes one.") from None
    refuse_other_channels(ranking.first(MOST), config, path)
    return ranking
