"""NVIDIA's own operators as a rival, from the user's clone of NVlabs/stylegan3: called as a black box, never read or copied.

Their licence is not this package's: nothing of theirs is shipped, and only those who have a clone can run this. They have no
bfloat16; where a case is in bfloat16 they are given float16, which moves as many bytes.

    python benchmarks/peer.py ~/stylegan3       # builds their plugins, so that no benchmark has to wait for it
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import cpp_extension

sys.path.insert(0, str(Path(__file__).parents[1]))

from facegan.models.stylegan2 import StyleGAN2Config


def peer_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float16 if dtype == torch.bfloat16 else dtype


def entered(load: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.utils.cpp_extension.load`, entering the module that it returns in `sys.modules`.

    Modules made with pybind11 3, which torch has from 2.11 on, are not there after they were loaded from a file, and NVIDIA's loader
    imports its freshly built plugin by name.
    """

    @functools.wraps(load)
    def load_and_enter(name: str, *args: Any, **kwargs: Any) -> Any:
        module = load(name, *args, **kwargs)
        if isinstance(module, ModuleType):  # with is_python_module=False it is the library's path
            sys.modules.setdefault(name, module)
        return module

    return load_and_enter


class Peer:
    """The public calls of `torch_utils.ops` and `training.networks_stylegan2` in the clone at `path`."""

    def __init__(self, path: str) -> None:
        if not (Path(path) / "torch_utils" / "ops").is_dir():
            raise pytest.UsageError(f"--peer-nvidia is {path}: expected a clone of NVlabs/stylegan3, with torch_utils/ops in it")
        sys.path.append(str(Path(path).resolve()))
        if not hasattr(cpp_extension.load, "__wrapped__"):
            cpp_extension.load = entered(cpp_extension.load)
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


def build(path: str) -> None:
    """Has their plugins built and kept by calling what needs them."""
    theirs = Peer(path)
    x = torch.ones(1, 1, 4, 4, device="cuda")
    theirs.bias_act(x, x.new_zeros(1))
    theirs.upfirdn2d(x, x.new_ones(2), 2, 1, 1, 0)
    torch.cuda.synchronize()


if __name__ == "__main__":
    build(sys.argv[1])
