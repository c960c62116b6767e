"""Method A's sampled generator as tensors and metadata of a stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.errors import FaceganError
from facegan.models.conv_gan import Generator, GeneratorConfig, channels_last
from facegan.models.merged_generator import MergedGenerator
from facegan.schema import Range, checked
from facegan.tensors import rebuilt


def pack_generator(whole: MergedGenerator) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata from which `unpack_generator` rebuilds the sampled generator."""
    tensors = checkpoint.pack("generator", whole.generator.state_dict())
    if whole.snapshot is not None and whole.merging:
        tensors |= checkpoint.pack("snapshot", whole.snapshot.state_dict())
    if whole.mask is not None:
        tensors["mask"] = whole.mask
    metadata = {"generator": whole.generator.config.to_json(), "merge": whole.mode, "strength": whole.strength}
    return tensors, metadata


class _Metadata(TypedDict):
    generator: GeneratorConfig
    merge: Literal["none", "image", "feature", "regional"]
    strength: Annotated[float, Range(0, 1)]


def unpack_generator(tensors: dict[str, Tensor], metadata: dict[str, Any], where: object = "the generator") -> MergedGenerator:
    """What `pack_generator` packed; `where` is named in the FaceganError on anything else."""
    known: _Metadata = checked(metadata, _Metadata, where)
    config, mask = known["generator"], tensors.get("mask")
    if mask is not None and mask.shape != (1, 1, config.resolution, config.resolution):
        raise FaceganError(f"{where}: mask is {list(mask.shape)}; expected {[1, 1, config.resolution, config.resolution]}")
    generator = rebuilt(lambda: Generator(config), checkpoint.unpack("generator", tensors), where)
    merging = known["strength"] > 0
    snapshot = rebuilt(lambda: Generator(config), checkpoint.unpack("snapshot", tensors), where) if merging else None
    whole = MergedGenerator(generator, snapshot, known["merge"], mask)
    whole.strength = known["strength"]
    return channels_last(whole).eval().requires_grad_(False)
