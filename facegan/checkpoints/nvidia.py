"""NVIDIA's StyleGAN2 networks (stylegan2-ada-pytorch, and stylegan3 with `--cfg=stylegan2`) as ours.

What a network is stands in the records of its layers and blocks; the arguments that it was made with lack whatever was a default.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.checkpoints.inert import Record
from facegan.checkpoints.storages import LARGEST, load
from facegan.errors import FaceganError
from facegan.files import quoted, regular_file
from facegan.models.stylegan2 import Discriminator, StyleGAN2Config
from facegan.ops import setup_filter
from facegan.ops.activation import DEFAULT_GAINS
from facegan.tensors import check_size, refuse_other_shapes

log = logging.getLogger("facegan.checkpoints")

_MAPPED = r"mapping\.fc\d+"
_STYLED = r"synthesis\.b\d+\.conv[01]"
_OF_D = r"b\d+\.(fromrgb|conv[01]?|fc)"


def read(path: Path) -> tuple[StyleGAN2Config, dict[str, dict[str, Tensor]]]:
    """The configuration, and for each of "G_ema", "G", "D" that the file has the state dict of our network.

    A G or D that ours cannot be is left out with a logged sentence.
    """
    size = regular_file(path, LARGEST, "checkpoint")
    with open(path, "rb") as file:
        found = load(file, str(path))
    if not isinstance(found, dict) or not isinstance(found.get("G_ema"), Record):
        raise FaceganError(f"{path} holds no StyleGAN2 network: expected a pickle of {{G, D, G_ema, ...}}.")
    average = _opened(found["G_ema"], size, path)
    if not any(name.startswith("synthesis.b4.") for name in average.tensors):
        kind = quoted(found["G_ema"].class_name)
        raise FaceganError(f"{path} is a {kind} without the blocks of StyleGAN2; StyleGAN3-T and -R networks are not supported.")
    config = _generator_config(average)
    states = {"G_ema": _adapted(average)}
    if isinstance(found.get("G"), Record):
        try:
            trained = _opened(found["G"], size, path)
            if _generator_config(trained) != config:
                raise FaceganError(f"{path}: it differs in kind from G_ema.")
            states["G"] = _adapted(trained)
        except FaceganError as error:
            log.warning("%s: its G is left out, and G_ema stands for it (%s)", path, _reason(error, path))
    if isinstance(found.get("D"), Record):
        try:
            judge = _opened(found["D"], size, path)
            shared = _discriminator_config(judge, config)
            state = _adapted(judge)
            with torch.device("meta"):
                refuse_other_shapes(path, "D.", state, Discriminator(shared).state_dict())
            config, states["D"] = shared, state
        except FaceganError as error:
            log.warning("%s: its discriminator is left out, as ours cannot be what it is (%s)", path, _reason(error, path))
    return config, states


def _reason(error: FaceganError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ").rstrip(".")


@dataclass(frozen=True)
class _Network:
    """A network's modules by dotted name, and its parameters and buffers."""

    path: Path
    modules: dict[str, Record]
    tensors: dict[str, Tensor]

    def said(self, attribute: str, pattern: str) -> Any:
        """The one number, word or None that all modules of matching names record as `attribute`."""
        values: dict[Any, str] = {}
        for name, module in self.modules.items():
            if re.fullmatch(pattern, name):
                value = module.state.get(attribute, self)
                if value is self:
                    raise FaceganError(f"{self.path} does not say what {attribute} of {quoted(name)} is.")
                if not (value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 100)):
                    raise FaceganError(f"{self.path}: {attribute} of {quoted(name)} is {quoted(value)}, which is no number or word.")
                values.setdefault(value, name)
        if len(values) != 1:
            found = " and ".join(f"{quoted(value)} ({quoted(name)})" for value, name in list(values.items())[:2]) or "absent"
            raise FaceganError(f"{self.path}: {attribute} is {found}; expected one value in all layers.")
        return next(iter(values))

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        value = self.tensors.get(name)
        if value is None or value.ndim != dimensions:
            what = "absent" if value is None else str(list(value.shape))
            raise FaceganError(f"{self.path} lacks parts of a StyleGAN2 network: {name} is {what}, expected {dimensions} dimensions.")
        return tuple(value.shape)

    def sizes(self, prefix: str) -> list[int]:
        """Of the blocks from 8 px: powers of two without a gap."""
        pattern = re.compile(re.escape(prefix) + r"b(\d{1,5})\.conv0\.weight")
        sizes = sorted(int(match[1]) for match in map(pattern.fullmatch, self.tensors) if match)
        if not sizes or sizes != [8 << index for index in range(len(sizes))]:
            raise FaceganError(f"{self.path} lacks parts of a StyleGAN2 network: it has blocks of {sizes[:12]} px.")
        return sizes

    def check_gains(self, mapping_lr: float) -> None:
        """Every layer multiplies its weight, bias and activation as ours does, and resamples where ours does."""
        for name, module in self.modules.items():
            layer, grows = name.rpartition(".")[2], name.startswith("synthesis.")
            weight, activation = self.tensors.get(f"{name}.weight"), module.state.get("activation")
            lr = mapping_lr if re.fullmatch(_MAPPED, name) else 1.0
            expected = {"bias_gain": lr, "up": 2 if grows and layer in ("conv0", "skip") else 1}
            expected["down"] = 2 if not grows and layer in ("conv1", "skip") else 1
            if weight is not None and weight.numel():
                expected["weight_gain"] = lr / math.sqrt(weight[0].numel())
            if isinstance(activation, str) and activation in DEFAULT_GAINS:
                expected["act_gain"] = DEFAULT_GAINS[activation]
            for attribute, value in expected.items():
                told = module.state.get(attribute, value)
                if not isinstance(told, (int, float)) or not math.isclose(told, value, rel_tol=1e-5):
                    raise FaceganError(f"{self.path}: {attribute} of {quoted(name)} is {quoted(told)}; expected {value:g}.")


def _opened(record: Record, size: int, path: Path) -> _Network:
    modules = dict(_modules(record, path, set()))
    parts = ((f"{name}.{part}" if name else part, value) for name, module in modules.items() for part, value in _parts(module, path))
    return _Network(path, modules, check_size(parts, size, str(path)))


def _modules(record: Record, path: Path, seen: set[int], name: str = "", depth: int = 0) -> Iterator[tuple[str, Record]]:
    """(name, module) of a network and what it is made of, each `seen` once."""
    if depth > 4:  # Generator > synthesis > block > layer > affine
        raise FaceganError(f"{path} nests modules deeper than any StyleGAN2 network ({quoted(name)}).")
    if id(record) in seen:  # a thousand references at each of five depths would be 10^15 modules
        raise FaceganError(f"{path} holds the same module twice ({quoted(name)}).")
    seen.add(id(record))
    yield name, record
    for part, child in _children(record, "_modules", path):
        if isinstance(child, Record):
            yield from _modules(child, path, seen, f"{name}.{part}" if name else part, depth + 1)


def _parts(module: Record, path: Path) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in _children(module, kind, path):
            if isinstance(value, Tensor):
                yield name, value


def _children(record: Record, kind: str, path: Path) -> list[tuple[str, Any]]:
    children = record.state.get(kind, {})
    if not isinstance(children, dict) or not all(isinstance(name, str) and len(name) < 200 for name in children):
        raise FaceganError(f"{path} holds a {quoted(record.class_name)} whose {kind} are not a table of names.")
    return list(children.items())


def _generator_config(network: _Network) -> StyleGAN2Config:
    """From the shapes, as far as they tell, and from what the layers record."""
    sizes = [4, *network.sizes("synthesis.")]
    channels = {size: network.shape(f"synthesis.b{size}.conv1.weight", 4)[0] for size in sizes}
    first = network.shape("mapping.fc0.weight", 2)
    embedded, c_dim = network.shape("mapping.embed.weight", 2) if "mapping.embed.weight" in network.tensors else (0, 0)
    lr, architecture = _mapping_lr(network), network.said("architecture", r"synthesis\.b\d+")
    network.check_gains(lr)
    _refuse_activations(network, r"mapping\.embed|.*\.affine|synthesis\.b\d+\.skip")
    clamp = network.said("conv_clamp", rf"{_STYLED}|synthesis\.b\d+\.torgb")
    if architecture == "resnet" and network.said("conv_clamp", r"synthesis\.b\d+\.skip") is not None:
        raise FaceganError(f"{network.path}: conv_clamp limits its residual paths, which it does in no network of ours.")
    half = [network.modules[f"synthesis.b{size}"].state.get("use_fp16") is True for size in channels]
    return StyleGAN2Config.from_json(
        dict(
            resolution=max(channels), z_dim=first[1] - embedded, w_dim=first[0], c_dim=c_dim,
            mapping_layers=sum(re.fullmatch(_MAPPED, name) is not None for name in network.modules), mapping_lr=lr,
            channel_base=max(size * count for size, count in channels.items()), channel_max=max(channels.values()),
            architecture=architecture, half_sizes=sum(half), conv_clamp=clamp,
            img_channels=network.shape(f"synthesis.b{max(channels)}.torgb.weight", 4)[0],
            activation=network.said("activation", _STYLED), mapping_activation=network.said("activation", _MAPPED),
        ),
        network.path,
    )  # fmt: skip


def _mapping_lr(network: _Network) -> float:
    lr = network.said("bias_gain", _MAPPED)
    if not isinstance(lr, (int, float)) or not lr > 0:
        raise FaceganError(f"{network.path}: bias_gain of the mapping is {quoted(lr)}; expected a positive number.")
    return lr


def _refuse_activations(network: _Network, pattern: str) -> None:
    """Layers of matching names, if there are any, have none."""
    if any(re.fullmatch(pattern, name) for name in network.modules) and network.said("activation", pattern) != "linear":
        raise FaceganError(f"{network.path} has activations where StyleGAN2 has none.")


def _discriminator_config(network: _Network, config: StyleGAN2Config) -> StyleGAN2Config:
    """The generator's with the discriminator's metadata."""
    channels = {size: network.shape(f"b{size}.conv0.weight", 4)[0] for size in network.sizes("")}
    channels[4], fed = network.shape("b4.conv.weight", 4)[:2]
    own: dict[str, Any] = {}
    if any(config.channels(size) != count for size, count in channels.items()):
        own |= {"d_channel_base": max(size * count for size, count in channels.items()), "d_channel_max": max(channels.values())}
    lr = 1.0
    if config.c_dim:
        lr = _mapping_lr(network)
        layers = sum(re.fullmatch(_MAPPED, name) is not None for name in network.modules)
        label, activation = network.shape("b4.out.weight", 2)[0], network.said("activation", _MAPPED)
        if activation != config.mapping_activation:
            raise FaceganError(f"{network.path}: its mapping's activation is {activation}, the generator's {config.mapping_activation}.")
        own |= {"d_mapping_layers": layers} if layers != config.mapping_layers else {}
        own |= {"d_mapping_lr": lr} if lr != config.mapping_lr else {}
        own |= {"d_label_dim": label} if label != channels[4] else {}
    network.check_gains(lr)
    _refuse_activations(network, r"mapping\.embed|b\d+\.skip|b4\.out")
    architecture = network.said("architecture", r"b\d+")
    clamp = network.said("conv_clamp", r"b\d+\.conv[01]?|b(?!4\.)\d+\.fromrgb")
    if clamp != config.conv_clamp:
        raise FaceganError(f"{network.path}: its conv_clamp is {quoted(clamp)}, the generator's {config.conv_clamp}.")
    if architecture == "skip" and network.said("conv_clamp", r"b4\.fromrgb") is not None:
        raise FaceganError(f"{network.path}: conv_clamp limits its colours at 4 px.")
    if architecture == "resnet":
        limit = network.said("conv_clamp", r"b\d+\.skip")
        if limit not in (None, clamp):
            raise FaceganError(f"{network.path}: conv_clamp of its residual paths is {quoted(limit)}.")
        own["d_skip_clamp"] = limit is not None or clamp is None
    maps = fed - channels[4]
    if maps:
        group = network.said("group_size", r"b4\.mbstd")
        own["group"] = 1 << 16 if group is None else group
        if network.said("num_channels", r"b4\.mbstd") != maps:
            raise FaceganError(f"{network.path}: its minibatch standard deviation has another number of maps than its convolution reads.")
    own |= {"d_architecture": architecture, "d_activation": network.said("activation", _OF_D), "deviation_maps": maps}
    return StyleGAN2Config.from_json({**config.to_json(), **own}, network.path)


def _adapted(network: _Network) -> dict[str, Tensor]:
    """Our conventions: up layers' weights turned by 180 degrees; the resampling filter is ours, not stored."""
    adapted = {}
    for name, value in network.tensors.items():
        if name.endswith("resample_filter"):
            expected = setup_filter()
            if value.shape != (4, 4) or not torch.allclose(value.float(), torch.outer(expected, expected), atol=1e-4):
                raise FaceganError(f"{network.path} resamples by a filter other than [1, 3, 3, 1] ({quoted(name)}); ours have that alone.")
            continue
        turned = name.startswith("synthesis.") and name.endswith(".conv0.weight") and value.ndim == 4
        adapted[name] = (value.flip(2, 3) if turned else value).contiguous()
    return adapted
