"""GPEN's `.pth` checkpoints, read: a bare state dict or one under `g_ema`, whose generator is named as rosinality's.

Only names and shapes of its tensors are used; size, width and channel multiplier follow from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.checkpoints.rosinality import generator_config, generator_state, load_weights, unprefixed
from facegan.checkpoints.unpickling import clause
from facegan.errors import FaceganError
from facegan.models.stylegan2 import StyleGAN2Config

DECODER = "generator."


def is_gpen(path: Path) -> bool:
    """Whether a file has a restorer's encoder, by the names of its tensors."""
    try:
        return any(str(name).startswith("ecd0.") for name in _state(path))
    except FaceganError:  # reading it as whatever else it may be says what is wrong
        return False


def _state(path: Path) -> dict[str, Any]:
    found: Any = load_weights(path)
    return unprefixed(found["g_ema"] if isinstance(found.get("g_ema"), dict) else found)


def read(path: Path) -> tuple[StyleGAN2Config, dict[str, Tensor]]:
    """The decoder's configuration and the state dict of our `Restorer`."""
    state = {name: value for name, value in _state(path).items() if isinstance(name, str) and isinstance(value, Tensor)}
    decoder = {name.removeprefix(DECODER): value for name, value in state.items() if name.startswith(DECODER)}
    try:
        config = generator_config(decoder, path, "concat")
        ours = {f"generator.{name}": value for name, value in generator_state(decoder, config, path).items()}
    except FaceganError:
        raise
    except (KeyError, IndexError, AttributeError, RuntimeError, ValueError) as error:
        raise FaceganError(f"{path} holds no restorer: it lacks parts of a GPEN decoder, or their shapes ({clause(error)}).") from None
    layers = {"bottleneck": "final_linear"} | {f"encoder.b{size}": f"ecd{i}" for i, size in enumerate(reversed(config.sizes))}
    for name, theirs in layers.items():
        ours |= _layer(state, f"{theirs}.", name, path)
    return config, ours | {"generator.mapping.w_avg": torch.zeros(config.w_dim)}  # for truncation, of which a restorer does none


def _layer(state: dict[str, Tensor], prefix: str, name: str, path: Path) -> dict[str, Tensor]:
    """Weight and bias of one layer of the encoder, however deep they are nested; its filter is the one that we have too."""
    parts = {key: value for key, value in state.items() if key.startswith(prefix) and not key.endswith("kernel")}
    weights = [value for key, value in parts.items() if key.endswith("weight")]
    biases = [value for key, value in parts.items() if key.endswith("bias")]
    if len(weights) != 1 or len(biases) != 1:
        found = f"{len(weights)} weights and {len(biases)} biases"
        raise FaceganError(f"{path} holds no restorer: expected one weight and one bias under {prefix}*, got {found}.")
    return {f"{name}.weight": weights[0].detach(), f"{name}.bias": biases[0].detach()}
