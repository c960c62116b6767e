"""The `.pt` checkpoints of the widespread PyTorch StyleGAN2 (`{g, d, g_ema, latent_avg, args}`), read and written.

Only the names and shapes of its state dicts are used. Its convolutions carry a run-time scale that demodulation cancels, and its
up layers convolve where ours correlate, so their weights are turned by 180 degrees.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints.unpickling import check_size
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Mapping, StyleGAN2Config
from facegan.ops import setup_filter

GENERATORS = {"G_ema": "g_ema", "G": "g"}  # our name -> the file's


def read(path: Path) -> tuple[StyleGAN2Config, dict[str, dict[str, Tensor]]]:
    """The configuration, and for each of "G_ema", "G", "D" that the file has the state dict of our network."""
    found = load_weights(path)
    if not any(isinstance(found.get(name), dict) for name in GENERATORS.values()):
        raise FaceganError(f"{path} holds no StyleGAN2 generator: expected the keys g_ema or g.")
    present = {ours: found[theirs] for ours, theirs in GENERATORS.items() if isinstance(found.get(theirs), dict)}
    config = _config(next(iter(present.values())), path)
    mean = found.get("latent_avg")
    try:
        states = {name: _generator(state, config, mean, path) for name, state in present.items()}
    except (IndexError, RuntimeError) as error:  # of a view
        raise FaceganError(f"{path} has tensors of unknown shapes: {error}.") from None
    if isinstance(found.get("d"), dict):
        states["D"] = renamed_state(found["d"], discriminator_names(config), path)
    return config, states


def load_weights(path: Path) -> dict[str, Any]:
    """What torch.save wrote, as far as it is tensors and dicts of them: no code is run, and no more memory taken than the file has."""
    _refuse_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on a broken or a hostile file
        raise FaceganError(f"{path} cannot be read as weights alone: {str(error).splitlines()[0] if str(error) else error!r}") from None
    if not isinstance(found, dict):
        raise FaceganError(f"{path} holds no weights by name.")
    _refuse_inflation(found, path)
    return found


def _refuse_archive(path: Path) -> None:
    """torch.save compresses nothing: an archive whose parts are larger than itself is made to fill memory."""
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return  # of a torch before 1.6
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FaceganError(f"{path} cannot be read as weights alone: {error}") from None
    if size > path.stat().st_size:
        raise FaceganError(f"{path} is refused: {path.stat().st_size} bytes would unpack to {size}.")


def _refuse_inflation(found: dict[str, Any], path: Path) -> None:
    """Tensors must have their numbers in the file: no stride of 0 that repeats one, no storage whose bytes are absent."""
    size = path.stat().st_size
    states = [value for value in found.values() if isinstance(value, dict)]
    tensors = [("", value) for state in (found, *states) for value in state.values() if isinstance(value, Tensor)]
    if any(value.layout != torch.strided or value.device.type != "cpu" for _, value in tensors):
        raise FaceganError(f"{path} holds tensors that are not dense.")
    stored = {storage.data_ptr(): storage.nbytes() for storage in (value.untyped_storage() for _, value in tensors)}
    if sum(stored.values()) > size:
        raise FaceganError(f"{path} is refused: its {size} bytes claim to hold tensors of {sum(stored.values())}.")
    check_size(tensors, size, str(path))


def _config(state: dict[str, Tensor], path: Path) -> StyleGAN2Config:
    try:
        return generator_config(state)
    except (KeyError, IndexError, AttributeError) as error:
        raise FaceganError(f"{path} lacks parts of a StyleGAN2 generator ({error}).") from None


def generator_config(state: dict[str, Tensor], noise: Literal["add", "concat"] = "add") -> StyleGAN2Config:
    """Of a generator, from its tensors' shapes. Raises KeyError, IndexError or AttributeError where it lacks some."""
    blocks = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in state)
    channels = {4: state["conv1.conv.weight"].shape[1]}
    channels |= {4 << i: state[f"convs.{2 * i - 1}.conv.weight"].shape[1] for i in range(1, blocks)}
    return StyleGAN2Config(
        resolution=4 << (blocks - 1),
        z_dim=state["style.1.weight"].shape[1],
        w_dim=state["style.1.weight"].shape[0],
        mapping_layers=sum(name.startswith("style.") and name.endswith(".weight") for name in state),
        channel_base=max(size * count for size, count in channels.items()),
        channel_max=max(channels.values()),
        noise=noise,
    )


def generator_names(config: StyleGAN2Config) -> Iterator[tuple[str, str]]:
    """(ours, theirs) of every parameter and buffer of the generator."""
    for index in range(config.mapping_layers):
        for part in ("weight", "bias"):
            yield f"mapping.fc{index}.{part}", f"style.{index + 1}.{part}"
    yield "synthesis.b4.const", "input.input"
    for index, size in enumerate(config.sizes):
        layers = {"conv1": "conv1"} if size == 4 else {"conv0": f"convs.{2 * index - 2}", "conv1": f"convs.{2 * index - 1}"}
        for number, (ours, theirs) in enumerate(layers.items()):
            ours = f"synthesis.b{size}.{ours}"
            yield f"{ours}.weight", f"{theirs}.conv.weight"
            yield f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight"
            yield f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias"
            yield f"{ours}.bias", f"{theirs}.activate.bias"
            yield f"{ours}.noise_strength", f"{theirs}.noise.weight"
            if config.noise == "add":
                yield f"{ours}.noise_const", f"noises.noise_{max(2 * index - 1 + number, 0)}"
        ours, theirs = f"synthesis.b{size}.torgb", "to_rgb1" if size == 4 else f"to_rgbs.{index - 1}"
        yield f"{ours}.weight", f"{theirs}.conv.weight"
        yield f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight"
        yield f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias"
        yield f"{ours}.bias", f"{theirs}.bias"


def discriminator_names(config: StyleGAN2Config) -> Iterator[tuple[str, str]]:
    """(ours, theirs) of every parameter of the discriminator."""
    largest = config.resolution
    yield f"b{largest}.fromrgb.weight", "convs.0.0.weight"
    yield f"b{largest}.fromrgb.bias", "convs.0.1.bias"
    for index, size in enumerate(reversed(config.sizes[1:]), start=1):
        yield f"b{size}.conv0.weight", f"convs.{index}.conv1.0.weight"
        yield f"b{size}.conv0.bias", f"convs.{index}.conv1.1.bias"
        yield f"b{size}.conv1.weight", f"convs.{index}.conv2.1.weight"
        yield f"b{size}.conv1.bias", f"convs.{index}.conv2.2.bias"
        yield f"b{size}.skip.weight", f"convs.{index}.skip.1.weight"
    yield "b4.conv.weight", "final_conv.0.weight"
    yield "b4.conv.bias", "final_conv.1.bias"
    for ours, theirs in (("b4.fc", "final_linear.0"), ("b4.out", "final_linear.1")):
        yield f"{ours}.weight", f"{theirs}.weight"
        yield f"{ours}.bias", f"{theirs}.bias"


def renamed_state(state: dict[str, Tensor], names: Iterator[tuple[str, str]], path: Path) -> dict[str, Tensor]:
    renamed = {}
    for ours, theirs in names:
        if not isinstance(state.get(theirs), Tensor):
            raise FaceganError(f"{path} lacks {theirs}, which every StyleGAN2 checkpoint of this kind has.")
        renamed[ours] = state[theirs].detach().float()
    return renamed


def _generator(state: dict[str, Tensor], config: StyleGAN2Config, mean: object, path: Path) -> dict[str, Tensor]:
    """Our state of their generator; a missing mean style is measured."""
    drawn = {f"noises.noise_{2 * i + n}": None for i in range(len(config.sizes)) for n in (0, 1)}  # older files have none
    noises = {name: torch.zeros(1, 1, *[4 << ((int(name.split("_")[1]) + 1) // 2)] * 2) for name in drawn if name not in state}
    renamed = generator_state({**noises, **state}, config, path)
    renamed["mapping.w_avg"] = mean.float().flatten().clone() if isinstance(mean, Tensor) else mean_style(renamed, config)
    return renamed


def generator_state(state: dict[str, Tensor], config: StyleGAN2Config, path: Path) -> dict[str, Tensor]:
    """Their tensors by our names and in our shapes; without the mean style."""
    renamed = renamed_state(state, generator_names(config), path)
    for name, value in renamed.items():
        if name.endswith((".const", ".weight")) and value.ndim == 5 or name == "synthesis.b4.const":
            value = value[0]
        if name.endswith(".conv0.weight"):
            value = value.flip(2, 3)
        if name.endswith("noise_strength"):
            value = value.reshape(())
        if name.endswith("noise_const"):
            value = value[0, 0]
        if name.endswith("torgb.bias"):
            value = value.flatten()
        renamed[name] = value.contiguous()
    return renamed


@torch.no_grad()
def mean_style(state: dict[str, Tensor], config: StyleGAN2Config) -> Tensor:
    """The mean of w over 10,000 fixed z, [w_dim]: that project's own training writes none."""
    mapping = Mapping(config, config.z_dim, config.w_dim, num_ws=1)
    weights = {name.removeprefix("mapping."): value for name, value in state.items() if name.startswith("mapping.")}
    mapping.load_state_dict({**weights, "w_avg": torch.zeros(config.w_dim)})
    z = torch.from_numpy(np.random.RandomState(0).randn(10_000, config.z_dim)).float()
    return torch.cat([mapping(part)[:, 0] for part in z.split(1000)]).mean(0)


def write(path: Path, config: StyleGAN2Config, states: dict[str, dict[str, Tensor]]) -> None:
    """Our networks as a `.pt` of that project; it knows no labels and no resnet outputs; its own code also wants
    z_dim = w_dim, and the paper's channels or twice them."""
    if config.c_dim or config.architecture != "skip" or config.noise != "add":
        raise FaceganError(f"{path}: only unconditional networks with skip outputs and added noise have a form in this checkpoint format.")
    content: dict[str, object] = {}
    for ours, theirs in GENERATORS.items():
        if ours in states:
            content[theirs] = _their_generator(states[ours], config)
            content["latent_avg"] = states[ours]["mapping.w_avg"].clone()
    if "D" in states:
        content["d"] = {theirs: states["D"][ours].clone() for ours, theirs in discriminator_names(config)} | _filters_of_d(config)
    torch.save(content, path)


def _their_generator(state: dict[str, Tensor], config: StyleGAN2Config) -> dict[str, Tensor]:
    written = {}
    for ours, theirs in generator_names(config):
        value = state[ours]
        if ours.endswith(".conv0.weight"):
            value = value.flip(2, 3)
        if theirs.endswith(".conv.weight") or ours.endswith(".const"):
            value = value[None]
        if ours.endswith("noise_strength"):
            value = value.reshape(1)
        if ours.endswith("noise_const"):
            value = value[None, None]
        if ours.endswith("torgb.bias"):
            value = value.view(1, -1, 1, 1)
        written[theirs] = value.contiguous().clone()
    up = _outer() * 4  # what that project stores beside its up layers
    for index in range(1, len(config.sizes)):
        written[f"convs.{2 * index - 2}.conv.blur.kernel"] = up.clone()
        written[f"to_rgbs.{index - 1}.upsample.kernel"] = up.clone()
    return written


def _filters_of_d(config: StyleGAN2Config) -> dict[str, Tensor]:
    blocks = range(1, len(config.sizes))
    return {f"convs.{index}.{part}.0.kernel": _outer() for index in blocks for part in ("conv2", "skip")}


def _outer() -> Tensor:
    f = setup_filter()
    return torch.outer(f, f)
