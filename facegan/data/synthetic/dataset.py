"""Many faces: as arrays, or as a folder in CelebA's layout."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from facegan.data.synthetic.parameters import COLUMNS, FaceParameters, sample_parameters
from facegan.data.synthetic.renderer import check_resolution, render
from facegan.errors import FaceganError

_CHUNK = 256  # faces per task: large enough to hide the cost of handing arrays between processes
_FORMATS = ("jpg", "png")
_Result = TypeVar("_Result")


def render_dataset(
    num: int, resolution: int, seed: int, *, workers: int | None = None, progress: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Paint faces 0 .. num - 1 of ``seed``.

    Returns images uint8 [num, 3, resolution, resolution] and attributes float32 [num, len(COLUMNS)] in {0, 1}.
    ``workers`` counts processes (None: one per usable core, none where the work is small) and never changes the result.
    Raises FaceganError for a negative ``num`` or ``seed``, ``workers`` below 1, or an unsupported resolution.
    """
    _check(num, resolution, seed, workers)
    images = np.empty((num, 3, resolution, resolution), dtype=np.uint8)
    attributes = np.empty((num, len(COLUMNS)), dtype=np.float32)
    task = partial(_render_chunk, resolution, seed)
    for chunk, (pixels, truth) in _spread(task, num, resolution, workers, progress):
        images[chunk.start : chunk.stop], attributes[chunk.start : chunk.stop] = pixels, truth
    return images, attributes


def write_celeba_layout(
    out: Path, num: int, resolution: int, seed: int, *, image_format: str = "jpg", workers: int | None = None, progress: bool = False
) -> None:
    """Write faces 0 .. num - 1 of ``seed`` as CelebA is laid out.

    ``out`` gets ``img_align_celeba/000001.jpg`` (quality 95) or ``.png``, ``list_attr_celeba.txt`` and
    ``identity_CelebA.txt``, where each face is a person of its own.  Raises FaceganError as ``render_dataset`` does,
    and for another ``image_format``.
    """
    _check(num, resolution, seed, workers)
    if image_format not in _FORMATS:
        raise FaceganError(f"image_format is {image_format!r}; it must be one of {', '.join(_FORMATS)}.")
    out = Path(out)
    folder = out / "img_align_celeba"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index + 1:06d}.{image_format}" for index in range(num)]
    lines = [str(num), " ".join(COLUMNS) + " "]
    task = partial(_write_chunk, resolution, seed, folder, image_format)
    for chunk, truth in _spread(task, num, resolution, workers, progress):
        for index, row in zip(chunk, truth, strict=True):
            # CelebA pads 1 with a second space, so that it lines up with -1.
            lines.append(f"{names[index]} " + " ".join(" 1" if value else "-1" for value in row))
    (out / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (out / "identity_CelebA.txt").write_text("".join(f"{name} {index}\n" for index, name in enumerate(names, 1)))


def _check(num: int, resolution: int, seed: int, workers: int | None) -> None:
    for name, value, least in (("num", num, 0), ("seed", seed, 0), ("workers", 1 if workers is None else workers, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise FaceganError(f"{name} is {value!r}; give a whole number of at least {least}.")
    check_resolution(resolution)


def _faces(resolution: int, seed: int, chunk: range) -> Iterator[tuple[FaceParameters, NDArray[np.uint8]]]:
    for index in chunk:
        params = sample_parameters(seed, index)
        yield params, render(params, resolution)


def _truth(params: FaceParameters) -> list[float]:
    return list(params.attributes().values())


def _render_chunk(resolution: int, seed: int, chunk: range) -> tuple[NDArray[np.uint8], list[list[float]]]:
    images = np.empty((len(chunk), 3, resolution, resolution), dtype=np.uint8)
    truth = []
    for row, (params, pixels) in enumerate(_faces(resolution, seed, chunk)):
        images[row] = pixels.transpose(2, 0, 1)
        truth.append(_truth(params))
    return images, truth


def _write_chunk(resolution: int, seed: int, folder: Path, image_format: str, chunk: range) -> list[list[float]]:
    truth = []
    for index, (params, pixels) in zip(chunk, _faces(resolution, seed, chunk), strict=True):
        Image.fromarray(pixels).save(folder / f"{index + 1:06d}.{image_format}", quality=95)
        truth.append(_truth(params))
    return truth


def _spread(
    task: Callable[[range], _Result], num: int, resolution: int, workers: int | None, progress: bool
) -> Iterator[tuple[range, _Result]]:
    """Yield ``(range, task(range))`` over 0 .. num - 1, in order, in this process or over several."""
    size = max(1, min(_CHUNK, _CHUNK * 64 * 64 // resolution**2))
    chunks = [range(start, min(start + size, num)) for start in range(0, num, size)]
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, len(chunks) // 4)  # starting a process costs about as much as a chunk
    with tqdm(total=num, unit="face", disable=not progress) as bar:
        if workers <= 1 or len(chunks) <= 1:
            for chunk in chunks:
                yield chunk, task(chunk)
                bar.update(len(chunk))
            return
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(workers, multiprocessing.get_context(method)) as pool:
            for chunk, result in zip(chunks, pool.map(task, chunks), strict=True):
                bar.update(len(chunk))
                yield chunk, result
