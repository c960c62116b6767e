"""Generate: faces by seed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from facegan.api import StyleGAN
from facegan.app.networks import Networks
from facegan.app.sessions import Session, zipped
from facegan.app.words import command, told
from facegan.errors import FaceganError
from facegan.options import Generate, GenerateOptions, of, parse_seeds

MOST = 256  # faces at once: more are for `facegan generate`
SURPRISES = 16


@dataclass(frozen=True, eq=False)
class Made:
    """Faces as files, and how they are made again."""

    options: Generate
    seeds: tuple[int, ...]  # of the faces shown
    files: tuple[Path, ...]
    grid: Path
    notes: tuple[str, ...]  # of the library

    @property
    def command(self) -> str:
        """The command line that writes the same files."""
        return command("generate", self.options)


def surprise() -> str:
    """Seeds that nobody has chosen, written as a range."""
    first = secrets.randbelow(10**6)
    return f"{first}-{first + SURPRISES - 1}"


def options_of(networks: Networks, network: str, seeds: str, truncation: float, best: int) -> Generate:
    """What is asked for, checked."""
    chosen = parse_seeds(seeds.strip() or "0-15")
    if len(chosen) > MOST:
        raise FaceganError(f"`seeds` is {len(chosen)} faces: expected at most {MOST} on the page; `facegan generate` makes more")
    given = networks.options
    return Generate(
        source=network,
        out="faces",
        seeds=chosen,
        truncation=float(truncation),
        best=int(best),
        device=given.device,
        cuda_graphs=given.cuda_graphs,
    )


def generate(networks: Networks, session: Session, network: str, seeds: str, truncation: float = 1.0, best: int = 0) -> Made:
    """Make faces and write them into the visitor's folder."""
    with told(), session.job("generate") as job:
        options = options_of(networks, network, seeds, truncation, best)
        with job.at_work():
            faces = networks.open(network).generate(**of(options, GenerateOptions))
            grid = faces.save(session.fresh("generate"))
        files = tuple(grid.with_name(f"{name}.png") for name in faces.names)
        session.shown = options
        return Made(options, faces.seeds, files, grid, tuple(job.notes))


def download(session: Session) -> Path:
    """Everything that was made last, in one archive."""
    with told():
        folder = session.folder / "generate"
        if not folder.is_dir():
            raise FaceganError("There are no faces yet: make some first")
        return zipped(folder, session.inside("downloads") / "faces.zip")


def keep(networks: Networks, session: Session, made: Made | None, index: int) -> str:
    """Keep the face at `index` of what was made, or let go of it; says what was done."""
    with told():
        if made is None or not 0 <= index < len(made.seeds):
            raise FaceganError("There is no such face: make some first")
        network, seed = made.options.source, made.seeds[index]
        if not isinstance(networks.open(network), StyleGAN):
            raise FaceganError(f"faces of {network} have no styles, so that they cannot be mixed: choose a StyleGAN2 network")
        done = "no longer kept"
        if session.keep(network, seed):
            done, session.truncation = "kept", made.options.truncation
        return f"seed {seed} is {done}"


def kept(session: Session, network: str) -> list[int]:
    """The seeds that were kept of a network."""
    return [seed for name, seed in session.kept if name == network]
