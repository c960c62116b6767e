"""Frames as a .gif or .mp4 that loops."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from facegan.errors import FaceganError
from facegan.files import written

SMALLEST = 256  # pixels of a frame: smaller ones are enlarged, which also keeps them from the codec's blur
# Converted by this matrix, and said to be: a player that is told nothing takes small pictures for BT.601.
BT709 = [
    "-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv", "-f", "mp4",
]  # fmt: skip
SUFFIXES = (".gif", ".mp4")


def check_video(path: Path, fps: float) -> None:
    """Everything that can be refused before the first frame is made."""
    if path.suffix not in SUFFIXES:
        raise FaceganError(f"`out` is {str(path)!r}: expected a file that ends in {' or '.join(SUFFIXES)}")
    if not 0 < fps <= 100:
        raise FaceganError(f"`fps` is {fps:g}: expected above 0, up to 100 frames a second")
    if path.suffix == ".mp4":
        _ffmpeg()


def write_video(path: Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Write frames of one size as a loop."""
    enlarged = _enlarged(frames)
    with written(path) as aside:
        if path.suffix == ".mp4":
            return _write_mp4(aside, enlarged, fps)
        # The colours of a frame of 64 px: counting those of all pixels takes longer than making the face.
        coloured = [frame.quantize(palette=frame.resize((64, 64)).quantize(256)) for frame in enlarged]
        coloured[0].save(aside, format="GIF", save_all=True, append_images=coloured[1:], duration=durations(len(coloured), fps), loop=0)


def durations(frames: int, fps: float) -> list[int]:
    """Milliseconds that each frame of a GIF is shown: tens, as its format counts in hundredths of a second, so spread that frame k
    begins within half a hundredth of k / fps. Pillow adds up those of equal neighbours, which it writes once."""
    starts = [round(100 * frame / fps) for frame in range(frames + 1)]
    return [10 * (end - start) for start, end in itertools.pairwise(starts)]


def _enlarged(frames: Iterable[Image.Image]) -> Iterator[Image.Image]:
    for frame in frames:
        scale = max(1, SMALLEST // frame.width)
        yield frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.LANCZOS) if scale > 1 else frame


def _ffmpeg() -> Any:
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ImportError:
        raise FaceganError("an .mp4 needs imageio-ffmpeg, which is not installed: pip install 'facegan[video]', or name a .gif") from None


def _write_mp4(path: Path, frames: Iterator[Image.Image], fps: float) -> None:
    first = next(frames)
    writer = _ffmpeg().write_frames(str(path), first.size, fps=fps, quality=8, macro_block_size=2, output_params=BT709)
    writer.send(None)  # starts the encoder
    writer.send(first.tobytes())
    for frame in frames:
        writer.send(frame.tobytes())
    writer.close()
