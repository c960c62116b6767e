"""Turned square windows of pictures, as networks look at them, and points in windows as points of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_GREY = (127.5, 128.0)  # level that is 0, and half of the range, as MTCNN was trained
_DARK, _LIT = 0.35, 0.4  # mean of a window, as a share of white, below which it is brightened, and the mean that it then has


@dataclass(frozen=True, eq=False)
class Picture:
    """A part of a photo on the device, and halves, quarters, ... of it, down to about 32 px."""

    levels: tuple[Tensor, ...]  # float32 [1, 3, H, W] each
    origin: tuple[float, float]  # of its left upper corner in the photo
    scale: tuple[float, float]  # its pixels a pixel of the photo

    @classmethod
    def of(cls, photo: Image.Image, width: int, height: int, device: torch.device, box: Sequence[int] | None = None) -> Picture:
        """An RGB photo, or the part in `box`, at another size."""
        left, top, right, bottom = box or (0, 0, photo.width, photo.height)
        if (width, height) != photo.size or box:
            photo = photo.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom), reducing_gap=1.01)
        pixels = torch.from_numpy(np.array(photo)).to(device).permute(2, 0, 1)[None]
        levels = [pixels.float().sub_(_GREY[0]).div_(_GREY[1])]
        while min(levels[-1].shape[2:]) >= 64:
            levels.append(F.avg_pool2d(levels[-1], 2))
        return cls(tuple(levels), (left, top), (width / (right - left), height / (bottom - top)))


@dataclass(frozen=True, eq=False)
class Windows:
    """N windows in photos: arrays of N."""

    which: np.ndarray  # int64: of several photos
    centres: np.ndarray  # float64 [N, 2]
    halves: np.ndarray  # half of a side
    angles: np.ndarray  # degrees by which it is turned clockwise
    mirrored: np.ndarray  # bool: left and right changed

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: np.ndarray) -> Windows:
        return Windows(self.which[index], self.centres[index], self.halves[index], self.angles[index], self.mirrored[index])

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        """All windows of the parts."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def points(self, shares: np.ndarray) -> np.ndarray:
        """[N, K, 2] in [-1, 1] of a window -> in its photo."""
        shares = np.where(self.mirrored[:, None, None], shares * (-1, 1), shares)
        cos, sin = np.cos(np.deg2rad(self.angles))[:, None], np.sin(np.deg2rad(self.angles))[:, None]
        turned = np.stack([cos * shares[..., 0] - sin * shares[..., 1], sin * shares[..., 0] + cos * shares[..., 1]], axis=-1)
        located: np.ndarray = self.centres[:, None] + self.halves[:, None, None] * turned
        return located

    def moved(self, offsets: np.ndarray) -> Windows:
        """To squares around the boxes that the networks' offsets [N, 4], shares of a window, make of them."""
        low, high = 2 * offsets[:, :2] - 1, 2 * offsets[:, 2:] + 1
        centres = self.points((low + high)[:, None] / 2)[:, 0]
        return replace(self, centres=centres, halves=self.halves * (high - low).max(1).clip(min=0) / 2)

    def boxes(self) -> np.ndarray:
        """float64 [N, 4], upright."""
        return np.concatenate([self.centres - self.halves[:, None], self.centres + self.halves[:, None]], axis=1)

    def pixels(self, pictures: Sequence[Picture], size: int) -> Tensor:
        """[N, 3, size, size] in about [-1, 1], dark ones brightened; grey beyond the pictures' edges."""
        device = pictures[0].levels[0].device if pictures else torch.device("cpu")
        out = torch.empty((len(self), 3, size, size), device=device, memory_format=torch.channels_last)
        steps = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        for place in np.unique(self.which):
            picture, mine = pictures[place], np.flatnonzero(self.which == place)
            scale = np.array(picture.scale)
            centres, halves = (self.centres[mine] - picture.origin) * scale, self.halves[mine] * scale.mean()
            wanted = np.log2(np.maximum(2 * halves / size, 1)).astype(np.int64)  # one level pixel or more, less than two, a window's pixel
            wanted = wanted.clip(max=len(picture.levels) - 1)
            for level in np.unique(wanted):
                rows, image = np.flatnonzero(wanted == level), picture.levels[level]
                grid = _grid(centres[rows] / 2.0**level, halves[rows] / 2.0**level, self[mine[rows]], steps, image.shape[2:])
                out[torch.from_numpy(mine[rows]).to(device)] = F.grid_sample(image.expand(len(rows), -1, -1, -1), grid, align_corners=False)
        return lit(out)


def _grid(centres: np.ndarray, halves: np.ndarray, windows: Windows, steps: Tensor, size: Sequence[int]) -> Tensor:
    """[n, S, S, 2] of positions in an image of `size` (height, width), as `grid_sample` takes them."""
    angles = np.deg2rad(windows.angles)
    cos, sin = (torch.from_numpy(halves * part).to(steps)[:, None, None] for part in (np.cos(angles), np.sin(angles)))
    across = torch.where(torch.from_numpy(windows.mirrored).to(steps.device)[:, None, None], -steps, steps)  # [n, 1, S]
    down = steps[None, :, None]
    left, top = torch.from_numpy(centres).to(steps).T[:, :, None, None]
    return torch.stack([(left + cos * across - sin * down) / size[1], (top + sin * across + cos * down) / size[0]], dim=-1) * 2 - 1


def lit(windows: Tensor) -> Tensor:
    """[N, 3, H, W], the dark ones multiplied up to a middling mean, as a longer exposure would, unless that bleaches their bright parts:
    faces in the shade are found less well, and elsewhere."""
    deviations, means = torch.std_mean(windows[..., ::3, ::3], dim=(1, 2, 3), correction=0)
    means, deviations = (means * _GREY[1] + _GREY[0]) / 255, deviations * (_GREY[1] / 255)
    gains = torch.minimum(_LIT / means.clamp(min=0.01), 1 / (means + 2 * deviations).clamp(min=0.01))
    dark = torch.nonzero((means < _DARK) & (gains > 1))[:, 0]
    if len(dark):
        levels = (windows[dark] * _GREY[1] + _GREY[0]) / 255 * gains[dark, None, None, None]
        windows = windows.index_copy(0, dark, (levels.clamp(max=1) * 255 - _GREY[0]) / _GREY[1])
    return windows


def in_parts(network: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor, most: int = 512) -> list[np.ndarray]:
    """A network's outputs for many windows, evaluated `most` at a time, as float64."""
    parts = [network(part) for part in pixels.split(most)]
    return [torch.cat(each).double().cpu().numpy() for each in zip(*parts, strict=True)]
