"""The `.pt` checkpoints of the widespread PyTorch StyleGAN2 (`{g, d, g_ema, latent_avg, args}`), read and written.

A generator's state dict alone is read too, with or without `module.` before its names, and pSp's and e4e's, whose decoder it is.
Only the names and shapes of state dicts are used. Its convolutions carry a run-time scale that demodulation cancels, and its up
layers convolve where ours correlate, so their weights are turned by 180 degrees.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints.storages import load_torch
from facegan.checkpoints.unpickling import clause
from facegan.errors import FaceganError
from facegan.files import quoted, written
from facegan.models.mapping import Mapping
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.ops import setup_filter
from facegan.tensors import check_size, refuse_other_shapes, refuse_other_values

log = logging.getLogger("facegan.checkpoints")

GENERATORS = {"G_ema": "g_ema", "G": "g"}  # our name -> the file's
DECODER = "decoder."  # pSp's and e4e's generator


def read(path: Path) -> tuple[StyleGAN2Config, dict[str, dict[str, Tensor]]]:
    """The configuration, and for each of "G_ema", "G", "D" that the file has the state dict of our network.

    A D that ours cannot be is left out with a logged sentence.
    """
    found = load_weights(path)
    present = {ours: unprefixed(found[theirs]) for ours, theirs in GENERATORS.items() if isinstance(found.get(theirs), dict)}
    if not present:
        whole = unprefixed(found["state_dict"] if isinstance(found.get("state_dict"), dict) else found)
        decoder = {name.removeprefix(DECODER): value for name, value in whole.items() if name.startswith(DECODER)}
        present = {"G_ema": decoder or whole}
        if "style.1.weight" not in present["G_ema"]:
            raise FaceganError(
                f"{path} holds no StyleGAN2 generator: expected the keys g_ema or g, a generator's state dict, or one of pSp or e4e."
            )
    config = _config(next(iter(present.values())), path)
    try:
        states = {name: _generator(state, config, found.get("latent_avg"), path) for name, state in present.items()}
    except (IndexError, RuntimeError) as error:  # of a view
        raise FaceganError(f"{path} has tensors of unknown shapes: {clause(error)}.") from None
    if isinstance(found.get("d"), dict):
        try:
            judge = renamed_state(unprefixed(found["d"]), discriminator_names(config), path)
            with torch.device("meta"):
                refuse_other_shapes(path, "D.", judge, Discriminator(config).state_dict())
            states["D"] = judge
        except FaceganError as error:
            reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ").rstrip(".")
            log.warning("%s: its discriminator is left out, as ours cannot be what it is (%s)", path, reason)
    return config, states


def unprefixed(state: dict[Any, Any]) -> dict[str, Any]:
    """A state dict's entries by their names, without the `module.` that DataParallel puts before each."""
    named = {name: value for name, value in state.items() if isinstance(name, str)}
    return {name.removeprefix("module."): value for name, value in named.items()}


def load_weights(path: Path) -> dict[str, Any]:
    """What torch.save wrote, as far as it is tensors and dicts of them: no code is run, and no more memory taken than the file has."""
    found = load_torch(path)
    if not isinstance(found, dict):
        raise FaceganError(f"{path} holds no weights by name.")
    states = [value for value in found.values() if isinstance(value, dict)]
    tensors = (("", value) for state in (found, *states) for value in state.values() if isinstance(value, Tensor))
    check_size(tensors, path.stat().st_size, str(path))  # no stride of 0 that repeats one number
    return found


def _config(state: dict[str, Tensor], path: Path) -> StyleGAN2Config:
    try:
        return generator_config(state, path)
    except FaceganError:
        raise
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise FaceganError(f"{path} lacks parts of a StyleGAN2 generator ({clause(error)}).") from None


def generator_config(state: dict[str, Tensor], path: Path, noise: Literal["add", "concat"] = "add") -> StyleGAN2Config:
    """Of a generator, from its tensors' shapes. Raises KeyError, IndexError or AttributeError where it lacks some."""
    blocks = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in state)
    channels = {4: state["conv1.conv.weight"].shape[1]}
    channels |= {4 << i: state[f"convs.{2 * i - 1}.conv.weight"].shape[1] for i in range(1, blocks)}
    w_dim, z_dim = state["style.1.weight"].shape[:2]
    metadata = dict(
        resolution=4 << (blocks - 1), z_dim=z_dim, w_dim=w_dim,
        mapping_layers=sum(name.startswith("style.") and name.endswith(".weight") for name in state),
        channel_base=max(size * count for size, count in channels.items()), channel_max=max(channels.values()),
        noise=noise, img_channels=state["to_rgb1.conv.weight"].shape[1],
    )  # fmt: skip
    return StyleGAN2Config.from_json(metadata, path)


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
        renamed[ours] = state[theirs].detach()
    return renamed


def _generator(state: dict[str, Tensor], config: StyleGAN2Config, mean: object, path: Path) -> dict[str, Tensor]:
    """Our state of their generator; a missing mean style is measured, once all shapes are known to be right."""
    with torch.device("meta"):
        expected = Generator(config).state_dict()
    noises = [theirs for ours, theirs in generator_names(config) if ours.endswith("noise_const")]
    bare = not any(name in state for name in noises)  # older files have none
    names = ((ours, theirs) for ours, theirs in generator_names(config) if not (bare and theirs in noises))
    renamed = _reshaped(renamed_state(state, names, path))
    missing = {name: value for name, value in expected.items() if name.endswith("noise_const") and bare}
    refuse_other_shapes(path, "", renamed, {name: value for name, value in expected.items() if name not in {*missing, "mapping.w_avg"}})
    renamed |= {name: torch.zeros(value.shape) for name, value in missing.items()}
    if isinstance(mean, Tensor) and mean.shape[-1:] == (config.w_dim,) and mean.ndim < 4:
        rows = mean.reshape(-1, config.w_dim)
        if len(rows) and (rows == rows[0]).all():  # one a layer in pSp's, all alike
            return renamed | {"mapping.w_avg": rows[0].clone()}
    elif mean is not None:
        what = list(mean.shape) if isinstance(mean, Tensor) else quoted(mean)
        raise FaceganError(f"{path}: latent_avg is {what}; expected a style, [{config.w_dim}].")
    refuse_other_values(path, "", renamed)
    return renamed | {"mapping.w_avg": mean_style(renamed, config)}


def generator_state(state: dict[str, Tensor], config: StyleGAN2Config, path: Path) -> dict[str, Tensor]:
    """Their tensors by our names and in our shapes; without the mean style."""
    return _reshaped(renamed_state(state, generator_names(config), path))


def _reshaped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, value in state.items():
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
        state[name] = value.contiguous()
    return state


@torch.no_grad()
def mean_style(state: dict[str, Tensor], config: StyleGAN2Config) -> Tensor:
    """The mean of w over 10,000 fixed z, [w_dim]: that project's own training writes none."""
    mapping = Mapping(config, config.z_dim, config.w_dim, num_ws=1)
    weights = {name.removeprefix("mapping."): value.float() for name, value in state.items() if name.startswith("mapping.")}
    mapping.load_state_dict({**weights, "w_avg": torch.zeros(config.w_dim)})
    random = np.random.RandomState(0)
    parts = (torch.from_numpy(random.randn(1000, config.z_dim)).float() for _ in range(10))
    return torch.cat([mapping(part)[:, 0] for part in parts]).mean(0)


def write(path: Path, config: StyleGAN2Config, states: dict[str, dict[str, Tensor]], force: bool = False) -> None:
    """Our networks as a `.pt` of that project, whole or not at all; what that form cannot say is logged.

    Raises:
        FaceganError: they have no form there, or, unless `force`, one that the project's own code cannot load.
    """
    if config.c_dim or config.architecture != "skip" or config.noise != "add" or config.growing:
        raise FaceganError(f"{path}: only unconditional networks with skip outputs and added noise have a form in this checkpoint format.")
    if (config.activation, config.mapping_activation) != ("lrelu", "lrelu"):
        raise FaceganError(f"{path}: this checkpoint format knows no activation but lrelu, these networks have others.")
    unloadable = _unloadable(config)
    if unloadable and not force:
        raise FaceganError(f"{path}: {unloadable}, which rosinality's code cannot load; `force` writes it for programs that can.")
    states = dict(states)
    lost = _lost(config)
    if "D" in states and not _plain_discriminator(config):
        del states["D"]
        lost.append("the discriminator, which is of another kind")
    if lost:
        log.warning("%s: this checkpoint format does not keep %s", path, "; ".join(lost))
    content: dict[str, object] = {}
    for ours, theirs in GENERATORS.items():
        if ours in states:
            content[theirs] = _their_generator(states[ours], config)
            content.setdefault("latent_avg", states[ours]["mapping.w_avg"].clone())
    if "D" in states:
        content["d"] = {theirs: states["D"][ours].clone() for ours, theirs in discriminator_names(config)} | _filters_of_d(config)
    try:
        with written(path) as aside:
            torch.save(content, aside)
    except RuntimeError as error:  # of torch.save
        raise FaceganError(f"{path} could not be written: {clause(error)}; make room, or name another place.") from None


def _unloadable(config: StyleGAN2Config) -> str:
    """What that project's classes are not: z and w of one length, the paper's channels or twice them, colours."""
    if config.z_dim != config.w_dim:
        return f"z has {config.z_dim} numbers and w {config.w_dim}"
    found = [config.channels(size) for size in config.sizes]
    if not any(found == [min(512, 16384 * times // size) for size in config.sizes] for times in (1, 2)):
        return f"its channels are {', '.join(map(str, found))} from 4 px on"
    return "" if config.img_channels == 3 else f"its images have {config.img_channels} channel(s)"


def _lost(config: StyleGAN2Config) -> list[str]:
    kept = {"conv_clamp": None, "mapping_lr": 0.01, "group": 4}
    return [f"{name} {getattr(config, name):g}" for name, value in kept.items() if getattr(config, name) != value]


def _plain_discriminator(config: StyleGAN2Config) -> bool:
    alike = (config.d_architecture, config.d_activation, config.deviation_maps) == ("resnet", "lrelu", 1)
    return alike and all(config.channels(size) == config.of_discriminator.channels(size) for size in config.sizes)


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
