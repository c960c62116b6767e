"""Styles on disk and by name: `.npz` files as NVIDIA's projector writes them, seeds, and folders that serve as a library.

A file holds key `w` (points of W or W+, float32 [N, num_ws, w_dim]) or key `direction` (differences of such points, added
to a point by `facegan edit`). Those of other projects are read too, see `foreign`.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from facegan.errors import FaceganError
from facegan.files import quoted, regular_file, written
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.options import parse_seeds
from facegan.styles.foreign import FOREIGN, read_foreign

Key = Literal["w", "direction"]
SUFFIX = ".npz"
LARGEST = 1 << 28  # bytes of a file, of one of its arrays, and of its styles with one for each layer: 7,000 of W+ at 1024 px
LONGEST_LIST = 1 << 20  # bytes of an archive's list of members
MOST_STYLES = 100_000  # of a file


@dataclass(frozen=True)
class Style:
    """A named point of W+, or a direction in it."""

    name: str
    w: Tensor  # float32 [num_ws, w_dim], on the CPU

    @property
    def is_plain(self) -> bool:
        """Whether all layers have the same style: a point of W, not of W+."""
        return bool((self.w == self.w[:1]).all())


def read_styles(path: str | Path, config: StyleGAN2Config | None = None, key: Key = "w") -> list[Style]:
    """The styles of a file: `key` is [N, num_ws, w_dim], or [N, 1, w_dim], [N, w_dim] or [w_dim] with one style for all layers.

    They are called like the file, `stem-0`, `stem-1` ... where there are several. Without a network's `config` they have as many
    layers and numbers as the file gives them.
    """
    path = Path(path)
    array = read_foreign(path, config) if path.suffix in FOREIGN else read_array(path, key)
    w = torch.from_numpy(array.astype(np.float32))
    if w.ndim == 1:
        w = w[None]
    if w.ndim == 2:
        w = w[:, None]
    if w.ndim != 3 or not w.numel() or (config and (w.shape[1] not in (1, config.num_ws) or w.shape[2] != config.w_dim)):
        wanted = "expected [N, num_ws, w_dim]"
        if config:
            wanted = f"this network takes [N, {config.num_ws}, {config.w_dim}] or [N, {config.w_dim}]"
        raise FaceganError(f"{path}: {key} has shape {list(array.shape)}; {wanted}.")
    if len(w) > MOST_STYLES or w[:, 0].numel() * (config.num_ws if config else 1) * w.element_size() > LARGEST:
        most = f"at most {MOST_STYLES}, and less than {LARGEST >> 20} MiB of them"
        raise FaceganError(f"{path}: {key} holds {len(w)} styles; expected {most}.")
    if not w.isfinite().all():
        raise FaceganError(f"{path}: {key} holds values that are not finite; expected numbers, so make this style again.")
    names = [path.stem] if len(w) == 1 else [f"{path.stem}-{index}" for index in range(len(w))]
    rows = w.expand(-1, config.num_ws if config else w.shape[1], -1).contiguous()
    return [Style(name, row) for name, row in zip(names, rows, strict=True)]


def write_style(path: str | Path, w: Tensor, key: Key = "w", **more: np.ndarray) -> None:
    """One style [num_ws, w_dim] as [1, num_ws, w_dim] float32, and `more` arrays beside it."""
    write_styles(path, w[None], key, **more)


def write_styles(path: str | Path, w: Tensor, key: Key = "w", **more: np.ndarray) -> None:
    """Styles [N, num_ws or 1, w_dim] as float32, and `more` arrays beside them; whole or absent, as the file is renamed."""
    arrays: dict[str, Any] = {key: w.detach().cpu().numpy().astype(np.float32), **more}
    with written(Path(path)) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)


def has_key(path: str | Path, key: Key) -> bool:
    """Whether a file is readable and holds this array."""
    try:
        with _archive(Path(path)) as archive:
            return f"{key}.npy" in archive.namelist()
    except Exception:  # whatever its bytes trip over
        return False


def files_of(folder: str | Path) -> list[Path]:
    """The style files of a folder, sorted."""
    return sorted(path for path in Path(folder).glob(f"*{SUFFIX}") if not path.name.startswith("."))


def resolve(
    tokens: Sequence[str | Path | Style], generator: Generator, library: Path | Sequence[Path] | None = None, psi: float = 1.0
) -> list[Style]:
    """The styles that a user names, in order.

    A token is a `Style`, a seed or a range of seeds, `3` or `0-7` (truncated by `psi`; one seed, one style, whatever stands beside it);
    a path to a `.npz`, `.npy` or `.pt`; a folder of `.npz`; or the name of a style in a folder of `library`, the first that has it.
    """
    folders = [library] if isinstance(library, Path) else list(library or [])
    found = ([token] if isinstance(token, Style) else _resolve(str(token), generator, folders, psi) for token in tokens)
    return [style for styles in found for style in styles]


def _resolve(token: str, generator: Generator, folders: list[Path], psi: float) -> list[Style]:
    if re.fullmatch(r"[\d,\- ]+", token, re.ASCII):
        return [_seed_style(seed, generator, psi) for seed in parse_seeds(token, "style")]
    path = Path(token)
    if path.is_dir():
        styles = [style for file in files_of(path) if has_key(file, "w") for style in read_styles(file, generator.config)]
        if not styles:
            raise FaceganError(f"{path} holds no styles: expected {SUFFIX} files with key w, as `facegan project` writes them.")
        return styles
    if path.suffix in (SUFFIX, *FOREIGN):
        return read_styles(path, generator.config)
    for folder in folders:
        if (folder / f"{token}{SUFFIX}").is_file():
            return read_styles(folder / f"{token}{SUFFIX}", generator.config)
    known = sorted({file.stem for folder in folders for file in files_of(folder)})
    offer = f"one of {', '.join(known[:12])}" if known else "`styles=DIR` with styles in it"
    raise FaceganError(f"style {token[:80]!r} is unknown; expected a seed such as 3 or 0-7, a {SUFFIX} file, a folder of them, or {offer}.")


def _seed_style(seed: int, generator: Generator, psi: float) -> Style:
    """z as NVIDIA's generate.py draws it. One at a time: matrix products of other sizes may round otherwise."""
    if generator.config.c_dim:
        raise FaceganError(
            f"style {seed} is a seed, and this network is conditional, so that a seed alone is no face: "
            f"name projections instead, {SUFFIX} files of `facegan project`"
        )
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, generator.config.z_dim)).float()
    with torch.no_grad():
        w = generator.mapping(z.to(generator.mapping.w_avg.device), psi=psi)[0]
    return Style(f"seed{seed:04d}", w.float().cpu())


def read_array(path: Path, key: str) -> np.ndarray:
    """An array of numbers, read without pickles; its header and the archive's own sizes are checked before memory is taken."""
    try:
        with _archive(path) as archive:
            names = archive.namelist()
            if f"{key}.npy" not in names:
                held = ", ".join(quoted(name.removesuffix(".npy"), 20) for name in names[:6]) or "nothing"
                raise FaceganError(f"{path} has no key {key}, but {held}; expected a file of `facegan project` or `facegan styles`.")
            array = _array(archive, f"{key}.npy", f"{path}: {key}")
    except FaceganError:
        raise
    except Exception as error:  # zlib, struct, numpy: whatever its bytes trip over
        reason = f"{type(error).__name__}: {quoted(str(error))}"
        raise FaceganError(f"{path} is no readable {SUFFIX} file ({reason}); make this style again.") from None
    return array


class _Bounded(io.FileIO):
    """A file of which no single read is longer than any archive's list of members needs."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(LONGEST_LIST + 1 if size is None or size < 0 else min(size, LONGEST_LIST + 1)) or b""
        if len(data) > LONGEST_LIST:
            raise FaceganError(f"{quoted(str(self.name))} lists more members than any {SUFFIX} file of styles holds.")
        return data


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.exists():
        raise FaceganError(f"{path} does not exist; expected a {SUFFIX} file of styles.")
    regular_file(path, LARGEST, f"{SUFFIX} file")
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        yield archive


def _array(archive: zipfile.ZipFile, member: str, what: str) -> np.ndarray:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.kind not in "fiu":
            raise FaceganError(f"{what} has type {quoted(str(dtype))}; expected real numbers.")
        numbers = math.prod(shape)
        if numbers * max(dtype.itemsize, 4) > LARGEST:
            raise FaceganError(f"{what} holds {quoted(numbers)} numbers; no style is that large.")
        data = stream.read(numbers * dtype.itemsize)
    return np.frombuffer(data, dtype, numbers).reshape(shape, order="F" if fortran else "C").copy("K")
