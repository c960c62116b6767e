"""What JPEG leaves of images, in batches on the device, each at a quality of its own (ITU-T T.81, and JFIF's colours at 4:2:0)."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.errors import FaceganError
from facegan.graphs import constant
from facegan.pixels import JPEG_LUMA

# Annex K of the standard, at quality 50, beside JPEG_LUMA.
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """[N, 3, H, W] in [-1, 1], quality [N] in 1..100 -> the same after compression; H and W multiples of 16."""
    if images.shape[2] % 16 or images.shape[3] % 16:
        raise FaceganError(f"images have shape {list(images.shape)}; JPEG at 4:2:0 works on multiples of 16 pixels.")
    to_ycbcr, to_rgb = _colours(images.device, images.dtype)
    luma, chroma = torch.einsum("cd,ndhw->nchw", to_ycbcr, images * 127.5 + 127.5).round().split((1, 2), dim=1)
    luma = _coded(luma - 128, JPEG_LUMA, quality) + 0.5  # the standard's level shift, and back to 127.5 as the middle
    chroma = _coded(F.avg_pool2d(chroma, 2).round(), CHROMA, quality).round()
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)  # decoders' triangle filter
    rgb = torch.einsum("cd,ndhw->nchw", to_rgb, torch.cat([luma, chroma], dim=1))
    return (rgb / 127.5).clamp(-1, 1)


@functools.cache
def _colours(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """RGB to JFIF's colours and back, sent to the device once; inverting waits for a GPU."""
    with torch.inference_mode(False):
        to_ycbcr = torch.tensor(YCBCR, dtype=dtype)
        return to_ycbcr.to(device), torch.linalg.inv(to_ycbcr).to(device)


def _coded(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """[N, C, H, W], about 0 -> cosine transforms of 8 x 8, rounded to the table's steps, and back."""
    n, c, height, width = planes.shape
    quality = quality.to(planes).clamp(1, 100).view(-1, 1, 1, 1, 1, 1)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)  # the Independent JPEG Group's rule
    steps = (constant(table, planes.device, planes.dtype) * scale + 0.5).floor().clamp(1, 255)
    transform = _cosines(planes)
    blocks = planes.view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    rounded = (transform @ blocks @ transform.mT / steps).round() * steps
    return (transform.mT @ rounded @ transform).transpose(3, 4).reshape(n, c, height, width)


def _cosines(like: Tensor) -> Tensor:
    """[frequency, place]: the orthonormal cosine transform of 8 values."""
    order = torch.arange(8, dtype=like.dtype, device=like.device)
    transform = torch.cos(math.pi * order[:, None] * (2 * order + 1) / 16) / 2
    transform[0] /= math.sqrt(2)
    return transform
