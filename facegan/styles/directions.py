"""`facegan styles average | collect | direction | list`: what N projections of one attribute have in common."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from facegan.checkpoints.networks import open_networks
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.keeping import REPORT, style_scores
from facegan.styles.store import SUFFIX, Style, files_of, has_key, read_styles, write_style, write_styles

log = logging.getLogger("facegan.styles")


def average(sources: Sequence[str], out: str) -> int:
    """Write one style, the mean of those in files and folders; returns how many those are."""
    styles = gather(sources)
    write_style(_checked_out(out), mean(styles))
    return len(styles)


def collect(sources: Sequence[str], out: str, best: int = 0, attribute: str = "") -> int:
    """Write the styles of files and folders into one file, and return how many those are; points of W take one row each.

    With `best` only so many, whose faces show `attribute` (by default the name of `out`) most by the critics that `project` asked: what
    a projection has lost it cannot give to a mix.
    """
    styles = gather(sources)
    if best:
        attribute = attribute or Path(out).stem
        styles = _best(styles, [file for source in sources for file in _files(Path(source))], best, attribute)
    plain = all(style.is_plain for style in styles)
    write_styles(_checked_out(out), torch.stack([style.w[:1] if plain else style.w for style in styles]))
    return len(styles)


def direction(positive: Sequence[str], out: str, negative: Sequence[str] = (), network: str = "") -> str:
    """Write the mean of the positive styles minus that of the negative ones, or minus the network's mean style; say what it is.

    Negatives that share with the positives all but the attribute (men, age, pose) leave that attribute alone in the difference.
    """
    if bool(negative) == bool(network):
        raise FaceganError("a direction leads away from something: give either `negative=STYLE` ... or `network` for its mean style")
    config = None
    if network:
        generator = open_networks(network).generator()
        config, base, base_name = generator.config, generator.mapping.w_avg, "the network's mean style"
    else:
        others = gather(negative)
        base, base_name = mean(others), f"the mean of {len(others)}"
    styles = gather(positive, config)
    point = mean(styles)
    if not network and point.shape != base.shape:
        shapes = f"shape {list(point.shape)}, `negative` of {list(base.shape)}"
        raise FaceganError(f"`positive` holds styles of {shapes}; expected those of one network.")
    write_style(_checked_out(out), point - base, key="direction")
    return f"the mean of {len(styles)} styles minus {base_name}, of length {length(point - base):.3f}"


def listing(folder: str, network: str = "") -> str:
    """A table of a folder's files; `distance` is that to the network's mean style, over the layers."""
    if not Path(folder).is_dir():
        raise FaceganError(f"{folder} does not exist; expected a folder of {SUFFIX} files.")
    generator = open_networks(network).generator() if network else None
    rows = [row for path in files_of(folder) for row in _rows(path, generator)]
    if not rows:
        raise FaceganError(f"{folder} holds no {SUFFIX} files; `facegan project --out {folder}` makes some.")
    rows = [("name", "shape", "kind", "distance" if network else "length"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _rows(path: Path, generator: Generator | None) -> list[tuple[str, str, str, str]]:
    is_direction = has_key(path, "direction")
    try:
        styles = read_styles(path, generator.config if generator else None, "direction" if is_direction else "w")
    except FaceganError as error:  # the others are still listed
        log.warning("%s", error)
        return []
    base = generator.mapping.w_avg if generator and not is_direction else 0
    return [
        (s.name, f"{list(s.w.shape)}", "direction" if is_direction else "w" if s.is_plain else "w+", f"{length(s.w - base):.3f}")
        for s in styles
    ]


def gather(sources: Sequence[str], config: StyleGAN2Config | None = None) -> list[Style]:
    """The styles of files, and of folders, where directions lie beside them; those of one shape only."""
    files = [file for source in sources for file in _files(Path(source))]
    styles = [style for file in files for style in read_styles(file, config)]
    if not styles:
        raise FaceganError(f"no styles in {', '.join(sources) or 'nothing'}; expected {SUFFIX} files with key w, or folders of them.")
    for style in styles:
        if style.w.shape != styles[0].w.shape:
            raise FaceganError(
                f"style {style.name} has shape {list(style.w.shape)}, style {styles[0].name} {list(styles[0].w.shape)}; "
                "expected styles of one network."
            )
    return styles


def _best(styles: list[Style], files: Sequence[Path], best: int, attribute: str) -> list[Style]:
    """Those that show an attribute most, in their order; `files` are of `facegan project`, one style each."""
    if not 1 <= best <= len(styles):
        raise FaceganError(f"`best` is {best}: expected 1 to {len(styles)}, as many styles as there are")
    known = {folder: style_scores(folder, attribute) for folder in {file.parent for file in files}}
    for file in files:
        if file.stem not in known[file.parent] or len(files) != len(styles):
            raise FaceganError(f"{file.parent / REPORT} does not tell of {file.name}: `best` takes the files of one `facegan project`")
    scores = [known[file.parent][file.stem] for file in files]
    kept = sorted(range(len(scores)), key=scores.__getitem__)[-best:]
    log.info(
        "%s: %.2f to %.2f by the critics; the lowest of all %d had %.2f",
        attribute,
        scores[kept[0]],
        scores[kept[-1]],
        len(scores),
        min(scores),
    )
    return [styles[index] for index in sorted(kept)]


def _files(source: Path) -> list[Path]:
    return [file for file in files_of(source) if has_key(file, "w")] if source.is_dir() else [source]


def mean(styles: Sequence[Style]) -> Tensor:
    """[num_ws, w_dim]"""
    return torch.stack([style.w for style in styles]).double().mean(0).float()


def length(difference: Tensor) -> float:
    """Of a difference of styles [num_ws, w_dim]: root mean square over the layers of each layer's length."""
    return difference.square().sum(1).mean().sqrt().item()


def _checked_out(out: str) -> Path:
    path = Path(out)
    if path.suffix != SUFFIX:
        raise FaceganError(f"`out` is {out!r}; expected the name of a {SUFFIX} file.")
    return path


def find_direction(name: str, generator: Generator, folders: Sequence[Path]) -> Tensor:
    """A direction [num_ws, w_dim] by path or by name in a folder; an averaged style serves as one, minus the mean style."""
    places = [Path(name)] if name.endswith(SUFFIX) else [folder / f"{name}{SUFFIX}" for folder in folders]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        known = sorted({file.stem for folder in folders for file in files_of(folder)})
        offer = f"one of {', '.join(known[:12])}" if known else f"a {SUFFIX} file, or `styles=DIR` with {name}{SUFFIX} in it"
        raise FaceganError(f"direction {name[:80]!r} is unknown; expected {offer}.")
    if has_key(path, "direction"):
        return mean(read_styles(path, generator.config, "direction"))
    return mean(read_styles(path, generator.config)) - generator.mapping.w_avg.cpu()
