"""Restorers on disk: `open_restorer(path)` of a run, a folder, a shipped name or GPEN's `.pth`; `save_restorer(weights, folder)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from facegan.checkpoints import checkpoint, gpen
from facegan.checkpoints.networks import CONFIG, WEIGHTS, metadata_of, read_folder, write_folder
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, made_by_run
from facegan.checkpoints.storages import LARGEST
from facegan.errors import FaceganError
from facegan.files import regular_file
from facegan.models.conv_gan import channels_last
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.tensors import refuse_other_shapes, refuse_other_values, shapes_alone

KIND = "restorer"
STAGE = "restorer"  # of a run of `--method restore`
EXPECTED = f"a run of `train --method restore`, a folder with {WEIGHTS} and {CONFIG}, or GPEN's .pth"


@dataclass(frozen=True)
class RestorerWeights:
    """A decoder's configuration and the state dict of the whole."""

    config: StyleGAN2Config
    state: dict[str, Tensor]
    may_have_seen_joint_faces: bool = True

    @torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
    def restorer(self) -> Restorer:
        """In float32, in evaluation mode, without gradients."""
        restorer = Restorer(replace(self.config, half_sizes=0))
        restorer.load_state_dict(self.state)
        return channels_last(restorer).eval().requires_grad_(False)


def is_restorer(path: str | Path) -> bool:
    """Whether `open_restorer` is what opens this folder, name or file."""
    path = located(path)
    if path.is_file():
        return path.suffix in (".pth", ".pt") and path.stat().st_size <= LARGEST and gpen.is_gpen(path)
    return path.is_dir() and (made_by_run(path) == KIND or metadata_of(path).get("kind") == KIND)


def open_restorer(path: str | Path) -> RestorerWeights:
    """The averaged network of a run, finished or not, or what a folder or file holds; no code of a file is run."""
    path = located(path)
    if path.is_dir():
        weights = _open_run(path) if made_by_run(path) == KIND else _open_folder(path)
    elif not path.exists():
        raise FaceganError(f"{path} does not exist; expected {EXPECTED}")
    elif path.suffix not in (".pth", ".pt"):
        raise FaceganError(f"{path} is of no known kind; expected {EXPECTED}")
    else:
        regular_file(path, LARGEST, "restorer")
        weights = RestorerWeights(*gpen.read(path))
    with shapes_alone():
        expected = Restorer(weights.config).state_dict()
    refuse_other_shapes(path, "", weights.state, expected)
    refuse_other_values(path, "", weights.state)
    return replace(weights, state={name: value.float() for name, value in weights.state.items()})


def _open_run(path: Path) -> RestorerWeights:
    folder = RunFolder(path)
    found = folder.load_stage(STAGE) if folder.finished(STAGE) else folder.newest_checkpoint(STAGE)
    if found is None:
        raise FaceganError(f"{path} has no snapshot of its restorer yet: let the training run for a while")
    tensors, metadata = found
    about = metadata.get("extra")
    if not isinstance(about, dict):
        raise FaceganError(f"{path}: its snapshot tells nothing of its restorer; expected {EXPECTED}")
    state = checkpoint.unpack("network/restorer_ema", tensors)
    seen = about.get("may_have_seen_joint_faces", True) is not False
    return RestorerWeights(StyleGAN2Config.from_json(about.get("network"), path), state, seen)


def _open_folder(folder: Path) -> RestorerWeights:
    metadata, tensors = read_folder(folder, KIND, f"restorer; expected {EXPECTED}")
    seen = bool(metadata.pop("may_have_seen_joint_faces", True))
    return RestorerWeights(StyleGAN2Config.from_json(metadata, folder / CONFIG), tensors, seen)


def save_restorer(weights: RestorerWeights, folder: str | Path, half: bool = False) -> None:
    """`folder/model.safetensors` and `folder/config.json`; `half`: in half precision, which restores as well at half the size."""
    tensors = {name: value.half() if half else value for name, value in weights.state.items()}
    metadata = {"may_have_seen_joint_faces": weights.may_have_seen_joint_faces, **weights.config.to_json()}
    write_folder(Path(folder), KIND, metadata, tensors)
