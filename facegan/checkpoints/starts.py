"""Networks that Method A's training starts from: `open_start(path)` of a run, a folder or a shipped name; `save_start(start, folder)`.

A folder has `model.safetensors`, whose tensors are named `generator.*` and `discriminator.*`, in float32 or float16, and `config.json`,
which tells their shape and what they learned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.merged import unpack_generator
from facegan.checkpoints.networks import CONFIG, WEIGHTS, metadata_of, read_folder, write_folder
from facegan.checkpoints.networks import START as KIND
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, made_by_run
from facegan.checkpoints.sources import OPTIONS
from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.models.conv_gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from facegan.schema import Range, checked
from facegan.tensors import rebuilt, refuse_other_values

RUN = "generator"  # what a run of Method A makes, see `TrainConfig.MAKES`
SEEN, ORIGIN = "may_have_seen_joint_faces", "started_from"  # in the metadata of a stage that did not begin with new networks
EXPECTED = f"a run of `train --method a`, a folder of `facegan convert` with {WEIGHTS} and {CONFIG}, or the name of one that comes along"


@dataclass(frozen=True)
class Start:
    """A generator and a full-image discriminator in float32, without gradients, and what they learned from."""

    generator: Generator
    discriminator: Discriminator
    stage: str  # of the run that trained them: "pretrain" or "phase1"
    images: int  # shown to them in that stage
    data: str  # fingerprint of that run's images and labels
    attributes: tuple[str, ...]  # of that run, as its configuration has them: faces that carry all of them were held out
    may_have_seen_joint_faces: bool = True  # such faces; False where it is known that they have not
    run: Path | None = None  # where they are a run's, whose lists of images tell more
    begun_elsewhere: bool = False  # that run's networks were not new when it began

    @property
    def shape(self) -> GeneratorConfig:
        """Of the generator, which the discriminator's agrees with."""
        return self.generator.config

    def describe(self) -> str:
        """Half a line: "64 px, width 0.5, pretrain, 1,200,000 images"."""
        return f"{self.shape.resolution} px, width {self.shape.width:g}, {self.stage}, {self.images:,} images"


class _Config(TypedDict):
    """Of a folder's config.json, its kind aside."""

    generator: GeneratorConfig
    minibatch_deviation: bool
    stage: Literal["pretrain", "phase1"]
    images: Annotated[int, Range(0)]
    data_fingerprint: str
    attributes: list[str]


def is_start(path: str | Path) -> bool:
    """Whether `open_start` is what opens this: a run of Method A, or a folder or name of such networks."""
    path = located(path)
    return path.is_dir() and (made_by_run(path) == RUN or metadata_of(path).get("kind") == KIND)


def open_start(path: str | Path) -> Start:
    """The networks that a run of Method A's pre-training ended with, or its phase 1 where it had none; or those of a folder or name.

    Raises:
        FaceganError: there are none, they are of another kind, or the file is damaged.
    """
    place = located(path)
    if not place.exists():
        raise FaceganError(f"{place} does not exist; expected {EXPECTED}")
    if not place.is_dir():
        raise FaceganError(f"{place} is a file; expected {EXPECTED}")
    makes = made_by_run(place)
    if makes not in (None, RUN):
        raise FaceganError(f"{place} is a run of another method, whose networks are of another kind; expected {EXPECTED}")
    return _open_folder(place) if makes is None else _open_run(place)


def _open_run(place: Path) -> Start:
    folder = RunFolder(place)
    stage = next((name for name in OPTIONS["pretrain_from"] if folder.finished(name)), None)
    if stage is None:
        raise FaceganError(f"{place} has finished neither its pre-training nor its phase 1: let one of them end first")
    where, images = folder.stages / stage, folder.metadata(stage)["images"]
    tensors, metadata = folder.load_stage(stage)
    generator = unpack_generator(tensors, metadata, where).generator
    weights = checkpoint.unpack("discriminator", tensors)
    final = weights.get("final.weight")  # [out, in, 3, 3]: one more of the latter tells that deviation is seen
    deviation = final is not None and final.ndim == 4 and final.shape[1] != final.shape[0]
    discriminator = _discriminator(generator.config, deviation, weights, where)
    seen, origin = metadata.get(SEEN, False) is not False, ORIGIN in metadata
    data, attributes = folder.record()["data_fingerprint"], folder.config().attributes
    return _checked(Start(generator, discriminator, stage, images, data, attributes, seen, place, origin), where)


def _open_folder(folder: Path) -> Start:
    metadata, tensors = read_folder(folder, KIND, f"start of Method A; expected {EXPECTED}")
    seen = metadata.pop(SEEN, True) is not False or not metadata.get("attributes")  # of which none was held back
    known: _Config = checked(metadata, _Config, folder / CONFIG)
    shape = known["generator"]
    parts: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
    for name, value in tensors.items():
        network, _, rest = name.partition(".")
        if network not in parts:
            raise FaceganError(f"{folder / WEIGHTS} holds {quoted(name)}; expected a generator and a discriminator")
        parts[network][rest] = value
    for name, state in parts.items():
        refuse_other_values(folder / WEIGHTS, f"{name}.", state)
    generator = rebuilt(lambda: Generator(shape), parts["generator"], folder / WEIGHTS).eval().requires_grad_(False)
    discriminator = _discriminator(shape, known["minibatch_deviation"], parts["discriminator"], folder / WEIGHTS)
    learned = known["stage"], known["images"], known["data_fingerprint"], tuple(known["attributes"])
    return _checked(Start(generator, discriminator, *learned, seen), folder)


def _discriminator(shape: GeneratorConfig, deviation: bool, state: dict[str, Tensor], where: Path) -> Discriminator:
    side = shape.resolution
    config = DiscriminatorConfig(side, side, shape.width, shape.num_attributes, deviation)
    return rebuilt(lambda: Discriminator(config), state, where).eval().requires_grad_(False)


def _checked(start: Start, where: Path) -> Start:
    if start.shape.grown:
        raise FaceganError(f"{where}: its generator has the layers of phase 3; expected one of pre-training or phase 1")
    for network in (start.generator, start.discriminator):
        refuse_other_values(where, "", network.state_dict())
    return start


def save_start(start: Start, folder: str | Path, half: bool = False) -> None:
    """`folder/model.safetensors` and `folder/config.json`; `half`: in half precision, half the size.

    Raises:
        FaceganError: a weight is beyond float16, whose largest number is 65504.
    """
    networks = {"generator": start.generator, "discriminator": start.discriminator}
    tensors = {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}
    if half:
        tensors = {name: value.half() for name, value in tensors.items()}
        refuse_other_values(f"`slim` and {folder}", "", tensors)
    metadata = {
        SEEN: start.may_have_seen_joint_faces,
        "attributes": list(start.attributes),
        "data_fingerprint": start.data,
        "stage": start.stage,
        "images": start.images,
        "generator": start.shape.to_json(),
        "minibatch_deviation": start.discriminator.config.deviation,
    }
    write_folder(Path(folder), KIND, metadata, tensors)
