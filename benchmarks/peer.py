"""NVIDIA's own operators as a rival, from the user's clone of NVlabs/stylegan3: called as a black box, never read or copied.

Their licence is not this package's: nothing of theirs is shipped, and only those who have a clone can run this. They have no
bfloat16; where a case is in bfloat16 they are given float16, which moves as many bytes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.models.stylegan2 import StyleGAN2Config


def peer_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float16 if dtype == torch.bfloat16 else dtype


class Peer:
    """The public calls of `torch_utils.ops` and `training.networks_stylegan2` in the clone at `path`."""

    def __init__(self, path: str) -> None:
        if not (Path(path) / "torch_utils" / "ops").is_dir():
            raise pytest.UsageError(f"--peer-nvidia is {path}: expected a clone of NVlabs/stylegan3, with torch_utils/ops in it")
        sys.path.append(str(Path(path).resolve()))
        self._bias_act: Any = importlib.import_module("torch_utils.ops.bias_act").bias_act
        self._upfirdn2d: Any = importlib.import_module("torch_utils.ops.upfirdn2d").upfirdn2d
        self._modulated_conv2d: Any = importlib.import_module("training.networks_stylegan2").modulated_conv2d

    def bias_act(self, x: Tensor, b: Tensor) -> Tensor:
        y: Tensor = self._bias_act(x, b, act="lrelu")
        return y

    def upfirdn2d(self, x: Tensor, f: Tensor, up: int, down: int, before: int, after: int) -> Tensor:
        """With symmetric taps; as many pixels of padding on both axes."""
        padding = [before, after, before, after]
        y: Tensor = self._upfirdn2d(x, torch.outer(f, f), up=up, down=down, padding=padding, gain=up * up)
        return y

    def modulated_conv2d(self, x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, bias: Tensor) -> Tensor:
        """The layer at stride 1 in the non-grouped form, with which they train."""
        x = self._modulated_conv2d(x=x, weight=weight, styles=styles, noise=noise, padding=1, fused_modconv=False)
        y: Tensor = self._bias_act(x, bias, act="lrelu")
        return y

    def networks(self, config: StyleGAN2Config) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Generator and discriminator of the same size, in float16 at as many sizes as ours are in bfloat16."""
        module: Any = importlib.import_module("training.networks_stylegan2")
        options: dict[str, Any] = dict(
            c_dim=config.c_dim, img_resolution=config.resolution, img_channels=3, channel_base=config.channel_base,
            channel_max=config.channel_max, num_fp16_res=config.half_sizes, conv_clamp=config.conv_clamp,
        )  # fmt: skip
        generator = module.Generator(z_dim=config.z_dim, w_dim=config.w_dim, **options)
        return generator, module.Discriminator(**options)
