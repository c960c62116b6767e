"""A closed walk through styles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.errors import FaceganError
from facegan.plotting.sheets import to_pil
from facegan.styles.mix import Renderer, stacked
from facegan.styles.store import Style


def walk(styles: Sequence[Style], frames: int) -> Tensor:
    """Styles -> [len(styles) * frames, num_ws, w_dim]: `frames` from each style to the next, the last to the first; frame k * frames
    is style k itself.

    Styles made by projection have no z, so that no great circle leads from one to the next; this is a periodic cubic through W
    (Catmull & Rom 1974), which passes through every style and turns without a jolt.
    """
    if len(styles) < 2 or frames < 1:
        raise FaceganError(
            f"a walk leads from style to style: expected at least 2 `rows` and 1 of `frames`, not {len(styles)} and {frames}"
        )
    here = stacked(styles)[:, None]
    t = torch.arange(frames, dtype=here.dtype, device=here.device)[None, :, None, None] / frames
    before, there, after = (here.roll(shift, 0) for shift in (1, -1, -2))
    # The Hermite cubic whose slope at a style is half the way between its neighbours.
    slope, next_slope = (there - before) / 2, (after - here) / 2
    step = there - here
    points = here + t * (slope + t * (3 * step - 2 * slope - next_slope + t * (slope + next_slope - 2 * step)))
    return points.flatten(0, 1)


def frames_of(draw: Renderer, ws: Tensor) -> Iterator[Image.Image]:
    """The pictures of a walk, one after the other."""
    for w in tqdm(ws, desc="frames", unit="frame", disable=None):
        yield to_pil(draw(w[None])[0]).convert("RGB")
