"""NVIDIA's StyleGAN2 networks (stylegan2-ada-pytorch, and stylegan3 with `--cfg=stylegan2`) as ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from facegan.checkpoints.unpickling import Record, check_size, load
from facegan.errors import FaceganError
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.ops import setup_filter


def read(data: bytes, origin: str) -> tuple[StyleGAN2Config, dict[str, dict[str, Tensor]]]:
    """The configuration, and for each of "G_ema", "G", "D" that the file has the state dict of our network."""
    found = load(data, origin)
    if not isinstance(found, dict) or not isinstance(found.get("G_ema"), Record):
        raise FaceganError(f"{origin} holds no StyleGAN2 network: expected a pickle of {{G, D, G_ema, ...}}.")
    generator = found["G_ema"]
    tensors = check_size(_tensors(generator, origin, set()), len(data), origin)
    if not any(name.startswith("synthesis.b4.") for name in tensors):
        raise FaceganError(
            f"{origin} is a {generator.class_name} without the blocks of StyleGAN2; StyleGAN3-T and -R networks are not supported."
        )
    config = _config(generator.state, tensors, origin)
    states = {"G_ema": _adapted(tensors, origin)}
    for name in ("G", "D"):
        if isinstance(found.get(name), Record):
            states[name] = _adapted(check_size(_tensors(found[name], origin, set()), len(data), origin), origin)
    return config, states


def _tensors(record: Record, origin: str, seen: set[int], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a module's parameters and buffers and those of its children, each `seen` once."""
    if depth > 4:  # Generator > synthesis > block > layer > affine
        raise FaceganError(f"{origin} nests modules deeper than any StyleGAN2 network ({prefix}).")
    if id(record) in seen:  # a thousand references at each of five depths would be 10^15 modules
        raise FaceganError(f"{origin} holds the same module twice ({prefix}).")
    seen.add(id(record))
    for kind in ("_parameters", "_buffers"):
        for name, value in _children(record, kind, origin):
            if isinstance(value, Tensor):
                yield prefix + name, value
    for name, child in _children(record, "_modules", origin):
        if isinstance(child, Record):
            yield from _tensors(child, origin, seen, f"{prefix}{name}.", depth + 1)


def _children(record: Record, kind: str, origin: str) -> list[tuple[str, Any]]:
    children = record.state.get(kind, {})
    if not isinstance(children, dict) or not all(isinstance(name, str) for name in children):
        raise FaceganError(f"{origin} holds a {record.class_name} whose {kind} are not a table of names.")
    return list(children.items())


def _config(state: dict[str, Any], tensors: dict[str, Tensor], origin: str) -> StyleGAN2Config:
    """From the shapes, as far as they tell; the rest from the arguments that the network was made with."""
    given = state.get("_init_kwargs", {})
    synthesis = given.get("synthesis_kwargs", {}) if isinstance(given, dict) else {}
    synthesis = {**given, **synthesis} if isinstance(synthesis, dict) else {}
    try:
        sizes = [int(name.split(".")[1][1:]) for name in tensors if name.startswith("synthesis.b") and name.endswith(".conv1.weight")]
        channels = {size: tensors[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes}
        first = tensors["mapping.fc0.weight"]
        w_dim = first.shape[0]
        c_dim = tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else 0
        largest = max(sizes)
        return StyleGAN2Config(
            resolution=largest,
            z_dim=first.shape[1] - (w_dim if c_dim else 0),
            w_dim=w_dim,
            c_dim=c_dim,
            mapping_layers=sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in tensors),
            channel_base=max(size * count for size, count in channels.items()),
            channel_max=max(channels.values()),
            architecture="resnet" if f"synthesis.b{largest}.skip.weight" in tensors else "skip",
            half_sizes=_number(synthesis.get("num_fp16_res"), 0, len(sizes)),
            conv_clamp=_limit(synthesis.get("conv_clamp")),
        )
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise FaceganError(f"{origin} lacks parts of a StyleGAN2 generator ({error}).") from None


def _number(value: Any, least: int, most: int) -> int:
    return min(max(int(value), least), most) if isinstance(value, (int, float)) else least


def _limit(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _adapted(tensors: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Our conventions: up layers' weights turned by 180 degrees; the resampling filter is ours, not stored."""
    adapted = {}
    for name, value in tensors.items():
        if name.endswith("resample_filter"):
            expected = setup_filter()
            if value.shape != (4, 4) or not torch.allclose(value.float(), torch.outer(expected, expected), atol=1e-4):
                raise FaceganError(f"{origin} resamples by a filter other than [1, 3, 3, 1] ({name}), which is not supported.")
            continue
        turned = name.startswith("synthesis.") and name.endswith(".conv0.weight") and value.ndim == 4
        adapted[name] = (value.flip(2, 3) if turned else value).float().contiguous()
    return adapted
