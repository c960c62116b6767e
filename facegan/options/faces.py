"""Options of the commands that make, judge, restore and convert faces and networks."""

from __future__ import annotations

from dataclasses import dataclass

from facegan.config import Options, option
from facegan.devices import AUTO, HELP
from facegan.options.common import RESTORER, Compute, FacesOf, NoiseMode, parse_seeds


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
        "",
        "checkpoint: NVIDIA's .pkl, a .pt of rosinality, pSp or e4e, a folder of ours, or a run (Method A's becomes a start)",
        place="IN",
    )
    out: str = option("", "folder for model.safetensors and config.json, or FILE.pt in rosinality's form", place="OUT")
    slim: bool = option(False, "to pass on: averaged generator, discriminator in half precision; of Method A both in half precision")
    force: bool = option(False, "write a FILE.pt even if rosinality's own code cannot load such a network")
