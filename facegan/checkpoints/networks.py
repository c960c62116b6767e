"""StyleGAN2 networks on disk and from any supported file: `open_networks(path)`, `save_networks(networks, folder)`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from facegan.checkpoints import checkpoint, nvidia, rosinality
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, is_run, made_by_run
from facegan.checkpoints.storages import LARGEST
from facegan.errors import FaceganError
from facegan.files import quoted, read_json, regular_file, write_whole, written
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.tensors import read_tensors, refuse_other_shapes, refuse_other_values, shapes_alone

WEIGHTS, CONFIG = "model.safetensors", "config.json"
KIND = "stylegan2"
STAGE = "stylegan2"  # of a run of Method B
START = "start"  # the kind of `facegan.checkpoints.starts`
_NAMES = {  # by kind
    KIND: "a StyleGAN2 network",
    "restorer": "a restorer",
    START: "networks that Method A starts from (`facegan train --pretrain-from`)",
}
_LARGEST_CONFIG = 1 << 20  # bytes


@dataclass(frozen=True)
class StyleGAN2Checkpoint:
    """A configuration and the state dicts of "G_ema", "G" and "D", those that there are."""

    config: StyleGAN2Config
    states: dict[str, dict[str, Tensor]]
    may_have_seen_joint_faces: bool = True  # false for a run of facegan's, whose ids tell, and what was converted from it

    @torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
    def generator(self) -> Generator:
        """The averaged generator, or the trained one where there is no average; in evaluation mode, without gradients.

        In float32 throughout: bfloat16, in which the larger sizes may have been trained, shows in the last digits of a picture.
        """
        generator = Generator(replace(self.config, half_sizes=0))
        generator.load_state_dict(self.states["G_ema" if "G_ema" in self.states else "G"])
        return generator.eval().requires_grad_(False)

    @torch.random.fork_rng(devices=[])
    def discriminator(self) -> Discriminator | None:
        if "D" not in self.states:
            return None
        discriminator = Discriminator(replace(self.config, half_sizes=0))
        discriminator.load_state_dict(self.states["D"])
        return discriminator.eval().requires_grad_(False)


def is_network(path: str | Path) -> bool:
    """Whether `open_networks` is what opens this: a checkpoint file, a run of Method B, or a folder or name of a StyleGAN2 network."""
    path = located(path)
    if not path.is_dir():
        return path.suffix in (".pkl", ".pt", ".pth")
    return made_by_run(path) == KIND or metadata_of(path).get("kind") == KIND


def metadata_of(folder: Path) -> dict:
    """What the folder's config.json says; nothing where there is none."""
    try:
        metadata = read_json(folder / CONFIG, _LARGEST_CONFIG)
    except FaceganError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def open_networks(path: str | Path) -> StyleGAN2Checkpoint:
    """A run of Method B (finished or not), a folder of `facegan convert`, a shipped network's name, an NVIDIA `.pkl`, or a `.pt`; no
    code of a file is run."""
    path = located(path)
    if path.is_dir():
        return _checked(_open_run(path) if made_by_run(path) == KIND else _open_folder(path), path)
    if not path.exists():
        raise FaceganError(f"{path} does not exist; expected a folder with {WEIGHTS} and {CONFIG}, a .pkl or a .pt file.")
    regular_file(path, LARGEST, "StyleGAN2 checkpoint")
    if path.suffix == ".pkl":
        return _checked(StyleGAN2Checkpoint(*nvidia.read(path)), path)
    if path.suffix in (".pt", ".pth"):
        return _checked(StyleGAN2Checkpoint(*rosinality.read(path)), path)
    raise FaceganError(f"{path} is of no known kind; expected a folder with {WEIGHTS} and {CONFIG}, a .pkl or a .pt file.")


def _open_run(path: Path) -> StyleGAN2Checkpoint:
    """The networks as trained, or as they are in the newest snapshot while training runs."""
    folder = RunFolder(path)
    found = folder.load_stage(STAGE) if folder.finished(STAGE) else folder.newest_checkpoint(STAGE)
    if found is None:
        raise FaceganError(f"{path} has no snapshot of its networks yet: let the training run for a while.")
    tensors, metadata = found
    about = metadata.get("extra")
    if not isinstance(about, dict):
        raise FaceganError(f"{path}: its snapshot tells nothing of its networks; expected one of a run of Method B.")
    config = StyleGAN2Config.from_json(about.get("network"), path)
    side = about.get("grown_to", config.resolution)
    if type(side) is not int or side < config.resolution:
        raise FaceganError(f"{path} has grown to {quoted(side)} of {config.resolution} px so far: let the training run for a while.")
    states = {name: checkpoint.unpack(f"network/{name}", tensors) for name in ("G_ema", "G", "D")}
    return StyleGAN2Checkpoint(config, states, about.get("may_have_seen_joint_faces", False) is not False)


def _open_folder(folder: Path) -> StyleGAN2Checkpoint:
    metadata, tensors = read_folder(folder, KIND, "StyleGAN2 network")
    seen = bool(metadata.pop("may_have_seen_joint_faces", True))
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        network, _, rest = name.partition(".")
        states.setdefault(network, {})[rest] = value
    return StyleGAN2Checkpoint(StyleGAN2Config.from_json(metadata, folder / CONFIG), states, seen)


def read_folder(folder: Path, kind: str, words: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What config.json says but for its kind, which must be this one, and the tensors."""
    absent = FaceganError(f"{folder} holds no {WEIGHTS} and {CONFIG} of a {words}.")
    if not (folder / CONFIG).exists():
        raise absent
    metadata = read_json(folder / CONFIG, _LARGEST_CONFIG)
    found = metadata.pop("kind", None) if isinstance(metadata, dict) else None
    if found != kind:
        other = f"describes {_NAMES[found]}, and " if isinstance(found, str) and found in _NAMES else ""
        raise FaceganError(f"{folder / CONFIG} {other}does not describe a {words}.")
    if not (folder / WEIGHTS).exists():
        raise absent
    return metadata, read_tensors(folder / WEIGHTS)


def _checked(networks: StyleGAN2Checkpoint, path: Path) -> StyleGAN2Checkpoint:
    """The same in float32, when every tensor has the name and the shape that our network of that configuration expects."""
    if not {"G_ema", "G"} & networks.states.keys():
        raise FaceganError(f"{path} holds no generator.")
    for name, state in networks.states.items():
        if name not in ("G_ema", "G", "D"):
            raise FaceganError(f"{path} holds a network {quoted(name)}; expected G_ema, G and D.")
        with shapes_alone():  # a hostile file may name any size; its tensors alone take memory
            expected = (Discriminator if name == "D" else Generator)(networks.config).state_dict()
        refuse_other_shapes(path, f"{name}.", state, expected)
        refuse_other_values(path, f"{name}.", state)
    states = {name: {key: value.float() for key, value in state.items()} for name, state in networks.states.items()}
    return replace(networks, states=states)


def refuse_other_colours(networks: StyleGAN2Checkpoint, path: str | Path, doing: str) -> None:
    """FaceganError for images that are not RGB, which photos, critics and judges are; `doing`: what cannot be done."""
    if networks.config.img_channels != 3:
        kind = "grey" if networks.config.img_channels == 1 else "RGBA"
        raise FaceganError(f"{path} makes {kind} images, and RGB networks alone can be {doing}; generate and mix serve others.")


def save_networks(networks: StyleGAN2Checkpoint, folder: str | Path) -> None:
    """`folder/model.safetensors` and `folder/config.json`."""
    tensors = {f"{name}.{key}": value for name, state in networks.states.items() for key, value in state.items()}
    metadata = {"may_have_seen_joint_faces": networks.may_have_seen_joint_faces, **networks.config.to_json()}
    write_folder(Path(folder), KIND, metadata, tensors)


def write_folder(folder: Path, kind: str, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """What `read_folder` reads; other files of the folder stay. Interrupted, it leaves the old pair, or no config.json.

    Raises:
        FaceganError: the folder is a run, whose records would be lost, or it cannot be written.
    """
    if is_run(folder):
        raise FaceganError(f"{folder} is a run of `facegan train`: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    apart, seen = {}, set[int]()
    for name, value in tensors.items():
        value = value.detach().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != value.nbytes:  # safetensors refuses shared memory
            value = value.clone()
        apart[name] = value
        seen.add(storage.data_ptr())
    try:
        with written(folder / WEIGHTS) as aside:
            save_file(apart, aside)
            (folder / CONFIG).unlink(missing_ok=True)
    except safetensors.SafetensorError as error:
        raise FaceganError(f"{folder / WEIGHTS} could not be written: {quoted(str(error))}; make room, or name another place.") from None
    write_whole(folder / CONFIG, json.dumps({"kind": kind, **metadata}, indent=2) + "\n")


def slimmed(networks: StyleGAN2Checkpoint) -> StyleGAN2Checkpoint:
    """What making, mixing and projecting faces needs: the averaged generator, and the discriminator, whose features measure
    perceptual distance, in half precision."""
    states = {"G_ema": networks.generator().state_dict()}
    if "D" in networks.states:
        states["D"] = {name: value.half() for name, value in networks.states["D"].items()}
    return replace(networks, states=states)
