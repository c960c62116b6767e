"""Options of the commands of `facegan data` and `facegan label`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facegan.config import RESOLUTIONS, Options, option
from facegan.devices import AUTO, HELP, check_device
from facegan.errors import FaceganError
from facegan.options.common import BLURRED, DUPLICATE_BITS


@dataclass(frozen=True)
class AlignOptions(Options):
    """How faces are cut out of photographs, and which are left out."""

    size: int = option(512, "pixels of a side of the faces")
    attributes_from: str = option(
        "",
        "write the faces' labels: `folders`: those of the folders that hold the photos, or of a list there; or a metadata.csv of them",
        metavar="folders|FILE",
    )
    faces: Literal["auto", "all", "largest"] = option(
        "auto", "of each photo; auto: the largest with `attributes_from`, as a photo's label is one person's, else all"
    )
    min_side: int = option(0, "smallest side of a face's square in the photo, in pixels", group="left out are", shown="half of `size`")
    min_sharpness: float = option(
        BLURRED, "what is blurrier at half of `size`; 0 to 1, sharp faces have 0.5 and more", group="left out are"
    )
    max_padding: float = option(0.5, "what lies beyond the photo's edge by a larger share of the square", group="left out are")
    max_turn: float = option(50.0, "heads turned to a side by about so many degrees", metavar="DEGREES", group="left out are")
    min_score: float = option(0.9, "what the detector is less sure of, 0.9 to 1", group="left out are")
    duplicate_distance: int = option(
        DUPLICATE_BITS, "faces like a better one but for so many of 288 bits, as in bursts", group="left out are"
    )
    keep_duplicates: bool = option(False, "keep those", group="left out are")

    @property
    def smallest_side(self) -> float:
        """`min_side`, or its default."""
        return self.min_side or self.size / 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 16 <= self.size <= 4096:
            raise FaceganError(f"`size` is {self.size}: expected 16 to 4096 pixels")
        self.at_least(0, "min_side", "max_turn", "duplicate_distance")
        self.fractions("min_sharpness", "max_padding")
        if not 0.9 <= self.min_score <= 1:
            raise FaceganError(
                f"`min_score` is {self.min_score:g}: expected 0.9, below which the detector itself takes nothing for a face, to 1"
            )


@dataclass(frozen=True)
class DataAlign(AlignOptions):
    """`facegan data align`"""

    photos: tuple[str, ...] = option((), "photographs, or folders of them, whose sub-folders are kept", place="PHOTO", nargs="+")
    out: str = option("", "folder for the faces, faces.csv and contact-sheet.png", required=True, metavar="DIR")
    dry_run: bool = option(False, "write nothing, show the counts")
    device: str = option(AUTO, HELP)


@dataclass(frozen=True)
class DataInspect(Options):
    """`facegan data inspect`"""

    data: str = option("", "folder or .zip of labelled faces (docs/data.md), or 'synthetic'", place="DATA")
    attributes: tuple[str, ...] = option(("bald", "beard"), "attributes, in order")
    look: int = option(1000, "images to look at, spread over the groups: sizes, sharpness, duplicates; 0: none")
    check_images: bool = option(False, "look at every image, name those that cannot be read")
    duplicate_distance: int = option(DUPLICATE_BITS, "near-duplicates differ in at most so many of the 288 bits of a perceptual hash")
    sheet: str = option("inspection.png", "picture of faces of each group, outside the data; '' for none", metavar="FILE.png")


@dataclass(frozen=True)
class DataLabel(Options):
    """`facegan data label`"""

    faces: str = option("", "folder or .zip of faces, with folders in it or without", place="FACES")
    attributes: tuple[str, ...] = option(
        ("bald", "beard"), "attributes to rate: built-in names, columns of `from_`, or name=SELECTOR/SELECTOR"
    )
    from_: tuple[str, ...] = option(
        (), "labelled faces to learn from: folders or .zip (docs/data.md); values of an earlier `data label` count where they were checked",
        nargs="+", metavar="LABELLED",
    )  # fmt: skip
    out: str = option("", "file to write (default: FACES/metadata.csv)", metavar="FILE")
    yes: float = option(0.9, "probability from which on a face has the attribute")
    no: float = option(0.1, "probability up to which it has not; between the two it stays unknown")
    folds: int = option(5, "parts of the labelled faces, each rated by a rater that has not seen it")
    resolution: int = option(64, "pixels at which faces are looked at: 16, 32, 64, 128, 256 or 512")
    seed: int = option(0, "which labelled faces are in which part")
    overwrite: bool = option(False, "write anew, whatever is there, instead of keeping what people have checked or changed")
    device: str = option(AUTO, HELP)

    def check(self) -> None:
        """Raises FaceganError for values that make no sense."""
        self.fractions("yes", "no")
        if not self.no < self.yes:
            raise FaceganError(f"`no` is {self.no:g} and `yes` is {self.yes:g}: expected `no` below `yes`")
        if not 2 <= self.folds <= 20:
            raise FaceganError(f"`folds` is {self.folds}: expected 2 to 20")
        if self.resolution not in RESOLUTIONS[:-1]:
            raise FaceganError(f"`resolution` is {self.resolution}: expected one of {', '.join(map(str, RESOLUTIONS[:-1]))}")
        self.at_least(0, "seed")
        check_device(self.device)
        if not self.attributes:
            raise FaceganError("`attributes` is missing: expected one or more, such as bald,beard")


@dataclass(frozen=True)
class DataSynth(Options):
    """`facegan data synth`"""

    num: int = option(1000, "how many")
    resolution: int = option(64, "pixels")
    seed: int = option(0, "which faces")
    out: str = option("", "folder to write", required=True)


@dataclass(frozen=True)
class DataPack(Options):
    """`facegan data pack`"""

    data: str = option("", "folder, .zip or shards of labelled faces (docs/data.md)", place="DATA")
    out: str = option("", "new folder for faces-000000.tar, ...", required=True, metavar="DIR")
    shard_size: str = option("1GiB", "size from which a new shard is begun", metavar="SIZE")
    decoders: int = option(0, "processes that check whether each image can be decoded; 0: half of the cores, up to 8")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(0, "decoders")
