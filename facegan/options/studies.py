"""Options of the page, the demo and ablations."""

from __future__ import annotations

from dataclasses import dataclass

from facegan.config import Options, option
from facegan.devices import AUTO, HELP, check_device
from facegan.errors import FaceganError
from facegan.options.common import Compute


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
    candidates: int = option(
        0, "Method B: faces projected of each attribute, of which the `styles` best by the critics are mixed (0: as many)", group="ablation"
    )
    projection_steps: int = option(1000, "Method B: steps of each projection", group="ablation")
    refine: int = option(
        0, "Method B: also rate regional mixes, and those of the recipe found if it has a mask, refined in so many steps, such as 30",
        metavar="STEPS", group="ablation", shown="0, not",
    )  # fmt: skip
