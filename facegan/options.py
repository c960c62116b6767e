"""The options of every command but the trainings', which are in `facegan.config` and `facegan/methods/<method>/config.py`.

A command's flags and the keywords of its method in the Python API are fields of one class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from facegan.config import RESOLUTIONS, Options, option
from facegan.devices import AUTO, HELP, check_device
from facegan.errors import FaceganError

SYNTHETIC = "synthetic64"  # StyleGAN2 of synthetic faces, 64 px, with named styles: bald, beard
RESTORER = "synthetic128"  # restorer of synthetic faces, to 128 px
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


# --- what several commands have


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
    align: Align = option("auto", "on: cut the largest face out of each photo as FFHQ's are, by facegan[align]; auto: where that is "
                                  "installed and the face is elsewhere; off: take the central square")  # fmt: skip


# --- faces


@dataclass(frozen=True)
class GenerateOptions(Options):
    """Which faces a generator makes."""

    seeds: tuple[int, ...] = option(tuple(range(16)), "which faces: 0-63, or 1,5,9; one seed, one face", parse=parse_seeds, shown="0-15")
    best: int = option(0, "only so many, those that the run's critics score highest; 0: all", metavar="N")
    truncation: float = option(1.0, "StyleGAN2: below 1 trades variety for quality", metavar="PSI")
    noise_mode: NoiseMode = option("const", "StyleGAN2: the same noise for every face, other noise for each, or none")
    label: tuple[float, ...] = option((), "conditional StyleGAN2: one number a label, e.g. 1,1 (in the order of `attributes`)")


@dataclass(frozen=True)
class Generate(GenerateOptions, Compute):
    """`facegan generate`"""

    source: str = option("", "run of `facegan train`, folder of `facegan convert`, StyleGAN2 .pkl or .pt, or hub:OWNER/NAME", place="RUN")
    out: str = option("", "folder for seed0000.png ... and grid.png", required=True)
    stage: str = option("", "a stage of the run, e.g. phase1 (default: its last generator)")


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """How a generator or restorer is measured."""

    data: str = option("", "data of the reference and the judge (default: the run's own)")
    samples: int = option(1024, "faces to rate; of a restorer at most 512")
    judge: str = option("", "folder with a trained judge (default: train one, or take it from the cache)")
    weights: str = option("", "Inception's weights, for KID and FID (default: do without)", metavar="FILE")
    lpips: str = option("", "VGG16's weights, for LPIPS (default: torch.hub's, if there)", metavar="FILE")
    restore: str = option("", "rate the faces before and after restoration by these weights", metavar="W")
    floor: str = option("", "take the floor from this run's phase 1 (default: the run's own)", metavar="RUN")
    faces: str = option("", "rate the faces in this folder by the run's judge, whoever made them, instead of the run's own", metavar="DIR")


@dataclass(frozen=True)
class Evaluate(EvaluateOptions):
    """`facegan evaluate`"""

    source: str = option("", "run of `facegan train`, or a restorer's weights", place="RUN")
    stage: str = option("", "a stage of the run, e.g. phase1 (default: its last generator)")
    out: str = option("", "folder for report.json and pictures (default: RUN/evaluation[-STAGE], or evaluation)")
    device: str = option(AUTO, HELP)


@dataclass(frozen=True)
class Restore(Compute):
    """`facegan restore`"""

    inputs: tuple[str, ...] = option((), "images of one face each, whole photographs, or folders of them", place="IN", nargs="*")
    out: str = option("", "folder for the results, with the sub-folders of the inputs", required=True, metavar="DIR")
    weights: str = option("", "run of `train --method restore`, folder of `facegan convert`, GPEN's .pth, hub:OWNER/NAME, or "
                          f"{RESTORER}, which comes with the package and knows synthetic faces (default: none)", metavar="W")  # fmt: skip
    scale: int = option(0, "how many times larger, 2 or 4 (default: 2 without `weights` and for photographs; else whatever leads to the "
                        "size of `weights`, and only faces that `scale` fits are taken if it is given)", metavar="N")  # fmt: skip
    faces: FacesOf = option("auto", "one: each input is one face, cut out; all: every face is found, restored and pasted back, by "
                            "facegan[align]; auto: all in what has the shape of a photograph, one in the others")  # fmt: skip
    from_run: str = option("", "restore the faces of a trained run instead of files", metavar="RUN")
    num: int = option(64, "`from_run`: how many, of seeds 0, 1, ...")
    batch: int = option(8, "faces at once")


@dataclass(frozen=True)
class Convert(Options):
    """`facegan convert`"""

    source: str = option(
        "", "NVIDIA's .pkl, a .pt of rosinality, pSp or e4e, a folder of ours, or a run (Method A's becomes a start)", place="IN"
    )
    out: str = option("", "folder for model.safetensors and config.json, or FILE.pt in rosinality's form", place="OUT")
    slim: bool = option(False, "to pass on: averaged generator, discriminator in half precision; of Method A both in half precision")
    force: bool = option(False, "write a FILE.pt even if rosinality's own code cannot load such a network")


# --- styles


@dataclass(frozen=True)
class MixOptions(Options):
    """How styles are mixed."""

    rows: tuple[Any, ...] = option((), f"what the columns are mixed into: {STYLES}", nargs="+", metavar="STYLE", required=True)
    cols: tuple[Any, ...] = option((), "what is mixed in, named likewise", nargs="+", metavar="STYLE", required=True)
    recipe: str = option("", "mode and weights from a recipe.json, e.g. of mix-search, or `default`: the one beside the network "
                         "(default: that one, if there is one and no layers are given)", metavar="FILE")  # fmt: skip
    mode: Mode | None = option(
        None, "regional: the column's style where the mask is, so that all else stays the row's; crossover: in these layers; interpolate: "
        "between both; arithmetic: what the column has beyond the mean face is added; stylespace: between both, in some channels of "
        "style space alone (default: regional, with `layers` or `weights` crossover; mix-search: whatever is best)",
    )  # fmt: skip
    mask: str = option(
        "", "where the column goes, in every mode: a mask of the network, lower, upper, mouth, eyes, or a picture whose white takes the "
        "column's style (default, regional: the network's, else lower)", metavar="NAME|PNG",
    )  # fmt: skip
    softness: float | None = option(
        None, "blur of the mask's edges, a share of the face's height (default: as the mask is; lower, upper, mouth and eyes: 0.015)"
    )
    layers: str = option("", "layers that the column joins: 4-7, 4,6, all, or by size (default: all under a mask, else 32-64px)")
    weight: float | None = option(None, "of the column in these layers (default: 1)")
    weights: str = option("", "a weight per layer, e.g. 4:0.5,5-7:1, instead of `layers`", metavar="LAYER:WEIGHT,...")
    average: float | None = option(None, "draw the columns to their mean first: 0 not, 1 entirely, which with `mode` arithmetic is the "
                                   "attribute's direction (default: 0)")  # fmt: skip
    channels: str = option(
        "", "the channels of style space that take the column, in every mode: an attribute whose channels `facegan styles channels` has "
        "found, or such a file (default, stylespace: those of the columns' name)", metavar="NAME|JSON",
    )  # fmt: skip
    number: int | None = option(None, "how many of these channels, the best first (default: 80)", metavar="N")
    truncation: float = option(1.0, "of seeds", metavar="PSI")
    noise_mode: NoiseMode = option("const", "noise of the network, one drawn noise for all faces, or none")
    batch: int = option(0, "faces at once; 1, which is slower, gives a style the same bits on a CPU whatever stands beside it", shown="8 "
                        "of up to 256 px, 2 of 512 px, 1 of 1024 px")  # fmt: skip
    styles: str = option("", "folder in which styles are looked up by name", metavar="DIR")


@dataclass(frozen=True)
class Mix(MixOptions, Network):
    """`facegan mix`"""

    out: str = option("", "folder for grid.png, row-NAME_col-NAME.png and recipe.json", required=True)


@dataclass(frozen=True)
class SearchOptions(MixOptions):
    """How the recipe of mixing is searched: rows carry attribute 1, columns attribute 2."""

    attributes: tuple[str, ...] = option((), "those of the critics' run in another order: rows, columns (default: its own)", group="search")
    critics: str = option("", "run whose critics choose (default: `network`, if it is a run)", metavar="RUN", group="search")
    data: str = option("", "data of the judge (default: those of the critics' run)", group="search")
    judge: str = option("", "folder with a trained judge (default: train one, or take it from the cache)", group="search")
    num_random: int = option(8, "random ranges of layers to compare with", group="search")
    pairs: int = option(128, "most pairs to search with, and to report on", group="search")
    budget: int = option(0, "recipes that are tried, at most, each on `pairs` pairs; 0: as many as the search wants", group="search")
    seed: int = option(0, "of the division of the styles", group="search")
    batch: int = option(32, "faces at once", group="search")


@dataclass(frozen=True)
class MixSearch(SearchOptions, Network):
    """`facegan mix-search`"""

    out: str = option("", "folder for recipe.json, table.md, search.json and pictures", required=True)


@dataclass(frozen=True)
class WalkOptions(Options):
    """A closed walk through styles."""

    rows: tuple[Any, ...] = option((), f"where it leads through: {STYLES}", nargs="+", metavar="STYLE", required=True)
    frames: int = option(30, "from each style to the next")
    truncation: float = option(1.0, "of seeds", metavar="PSI")
    noise_mode: NoiseMode = option("const", "noise of the network, one drawn noise for all faces, or none")
    styles: str = option("", "folder in which styles are looked up by name", metavar="DIR")


@dataclass(frozen=True)
class Walk(WalkOptions, Network):
    """`facegan walk`"""

    fps: float = option(24.0, "frames a second")
    out: str = option("", "the video, .gif or .mp4", required=True, metavar="FILE")


@dataclass(frozen=True)
class ProjectOptions(Projecting):
    """Which photos are projected, and how."""

    target: tuple[str, ...] = option((), "photos, or folders of them", nargs="+", metavar="PHOTO")
    batch: int = option(8, "photos at once, none of which depends on the others")
    keep: tuple[str, ...] = option((), "attributes whose scores by critics a style is to keep, such as bald", nargs="+", metavar="NAME")
    critics: str = option("", "run whose critics these are (default: `network`, if it is a run)", metavar="RUN")
    attribute: str = option(
        "", "faces with this attribute and none of the others, never a joint one", group="instead of `target`", metavar="NAME"
    )
    num: int = option(16, "how many of them, picked at random", group="instead of `target`")
    data: str = option("", "folder or .zip of labelled faces, or 'synthetic' (default: the network's own)", group="instead of `target`")
    attributes: tuple[str, ...] = option(
        (), "all attributes of the task (default: those of the run, else bald,beard)", group="instead of `target`"
    )


@dataclass(frozen=True)
class Project(ProjectOptions, Network):
    """`facegan project`"""

    out: str = option("styles", "folder for NAME.npz, NAME.png and projection.png")


@dataclass(frozen=True)
class EditOptions(Projecting):
    """What is done to a photo."""

    photo: str = option("", "a photo, of which the largest face is edited", place="PHOTO")
    paste: bool = option(False, "put what the edit changed back into the whole photo: NAME-pasted.png")
    add: tuple[str, ...] = option(
        (), "a direction or averaged style: a .npz file, or its name in `styles`; NAME:0.5 adds half of it", nargs="+", metavar="NAME"
    )
    remove: tuple[str, ...] = option((), "likewise", nargs="+", metavar="NAME")
    strength: float = option(1.0, "1: all the way, more exaggerates", metavar="S")
    layers: str = option("", "layers that are edited: 4-7, 4,6, all, or by size, 32-64px (default: all)")
    styles: str = option("", "folder in which names are looked up (default: those beside the network)", metavar="DIR")
    critics: str = option("", "run whose critics rate the edit (default: `network`, if it is a run)", metavar="RUN")


@dataclass(frozen=True)
class Edit(EditOptions, Network):
    """`facegan edit`"""

    out: str = option("edits", "folder for the projection, the edit, the photo with `paste`, edit.png and edit.json")


@dataclass(frozen=True)
class StylesAverage(Options):
    """`facegan styles average`"""

    sources: tuple[str, ...] = option((), STYLE_FILES, place="STYLE", nargs="+")
    out: str = option("", "the mean, as key w", required=True, metavar="FILE.npz")


@dataclass(frozen=True)
class StylesCollect(Options):
    """`facegan styles collect`"""

    sources: tuple[str, ...] = option((), STYLE_FILES, place="STYLE", nargs="+")
    out: str = option("", "all of them, as key w", required=True, metavar="FILE.npz")


@dataclass(frozen=True)
class StylesDirection(Options):
    """`facegan styles direction`"""

    positive: tuple[str, ...] = option((), f"styles with the attribute: {STYLE_FILES}", nargs="+", metavar="STYLE", required=True)
    negative: tuple[str, ...] = option((), "styles without it, alike in everything else", nargs="+", metavar="STYLE")
    network: str = option("", "instead of `negative`: away from this network's mean style")
    out: str = option("", "the difference of the means, as key direction", required=True, metavar="FILE.npz")


@dataclass(frozen=True)
class StylesMask(Options):
    """`facegan styles mask`"""

    network: str = option(SYNTHETIC, "whose masks they will be: a run, a folder of `facegan convert`, a .pkl or .pt")
    attributes: tuple[str, ...] = option((), "a mask of each, which part the image among themselves (default: those of the run)")
    data: str = option("", "labelled faces to learn from (default: the run's; without any, what the network changes along each direction)")
    styles: str = option("", "folder in which directions are looked up by name (default: the one beside the network)", metavar="DIR")
    keeps: float = option(0.98, "share of an attribute's effect that its mask covers: less is tighter")
    device: str = option(AUTO, HELP)
    softness: float = option(0.015, "blur of the edges, a share of the face's height")
    out: str = option("", "folder for NAME.png (default: NETWORK/masks, where `facegan mix` finds them)", metavar="DIR")


@dataclass(frozen=True)
class StylesChannels(Options):
    """`facegan styles channels`"""

    network: str = option(SYNTHETIC, "whose channels they will be: a run, a folder of `facegan convert`, a .pkl or .pt")
    attributes: tuple[str, ...] = option((), "attributes whose channels are found (default: those of the run)")
    styles: str = option("", "folder with styles of each attribute, NAME.npz or a folder NAME (default: the one beside the network)",
                         metavar="DIR")  # fmt: skip
    mask: str = option(
        "", "where the channels are to act (default: the mask of the attribute's name, see `styles mask`)", metavar="NAME|PNG"
    )
    faces: int = option(64, "random faces at which gradients are taken")
    device: str = option(AUTO, HELP)
    out: str = option("", "folder for NAME.json (default: NETWORK/channels, where `facegan mix` finds them)", metavar="DIR")


@dataclass(frozen=True)
class StylesList(Options):
    """`facegan styles list`"""

    folder: str = option("", "folder of styles", place="DIR")
    network: str = option("", "tells the distance of each style to this network's mean style")


# --- data and experiments


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


@dataclass(frozen=True)
class App(Compute):
    """`facegan app`"""

    sources: tuple[str, ...] = option(
        (), "runs and networks to offer, named as `generate` takes them (default: the network that comes with the package)",
        place="RUN|NETWORK", nargs="*",
    )  # fmt: skip
    host: str = option("127.0.0.1", "address to listen at; any other than 127.0.0.1 lets other machines in, who need no password")
    port: int = option(7860, "port to listen at; 0: any that is free")
    runs: str = option("runs", "folder whose runs are offered and shown", metavar="DIR")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port <= 65535:
            raise FaceganError(f"`port` is {self.port}: expected 0 to 65535")
        if not self.host or any(letter.isspace() for letter in self.host):
            raise FaceganError(f"`host` is {self.host!r}: expected an address of this machine, such as 127.0.0.1")
        check_device(self.device)


@dataclass(frozen=True)
class Demo(Options):
    """`facegan demo`"""

    out: str = option("runs/demo", "folder")
    seed: int = option(0, "of everything")
    device: str = option(AUTO, HELP)


@dataclass(frozen=True)
class AblateOptions(Options):
    """What an ablation is told besides the options of `facegan train`, which go to every row."""

    seeds: int = option(3, "seeds of every row, counted from `seed`", group="ablation")
    jobs: int = option(1, "runs at a time; they share the cores, or one GPU", group="ablation")
    samples: int = option(1024, "faces to rate of each; of B at most (styles / 2)^2", group="ablation")
    rows: tuple[str, ...] = option(
        (), "some only, e.g. plain,thesis,best; of B mixes or conditional (default: all)", group="ablation", metavar="ROW,..."
    )
    pairs: tuple[str, ...] = option(
        (), "lists of attributes, a table each, instead of `attributes`", group="ablation", nargs="+", metavar="A,B"
    )
    weights: str = option("", "Inception's weights, for KID and FID (default: the judge's features)", group="ablation", metavar="FILE")
    lpips: str = option("", "VGG16's weights, for LPIPS (default: torch.hub's, if there)", group="ablation", metavar="FILE")
    styles: int = option(32, "Method B: projected faces of each attribute", group="ablation")
    projection_steps: int = option(1000, "Method B: steps of each projection", group="ablation")


def of(options: Options, kind: type[Options]) -> dict[str, Any]:
    """The fields that `options` shares with a class that it extends, for the method that takes them."""
    return {item.name: getattr(options, item.name) for item in fields(kind)}
