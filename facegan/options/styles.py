"""Options of the commands that project, edit and keep styles."""

from __future__ import annotations

from dataclasses import dataclass

from facegan.config import Options, option
from facegan.devices import AUTO, HELP
from facegan.options.common import STYLE_FILES, SYNTHETIC, Network, Projecting


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
    best: int = option(
        0, "only those so many whose faces show the attribute most, by the critics of `facegan project` (0: all)", metavar="N"
    )
    attribute: str = option("", "the attribute that `best` asks for (default: what the file is called)", metavar="NAME")
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
