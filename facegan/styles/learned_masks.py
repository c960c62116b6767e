"""`facegan styles mask`: where attributes are, learned from labelled faces, or from what a network changes along their directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, is_run
from facegan.config import TrainConfig
from facegan.data.attributes import group, resolve
from facegan.data.faces import FaceData, open_faces, synthetic_seed
from facegan.data.splits import split
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator
from facegan.options import StylesMask
from facegan.styles.directions import find_direction
from facegan.styles.masks import plain_names, softened, write_masks
from facegan.training.augment import gaussian_blur
from facegan.training.regions import effects

LEARNED_AT = 64  # pixels: no attribute has a finer edge
FACES, FACES_MOVED = 2000, 128  # that are looked at: synthetic ones, those of the network


def learn(options: StylesMask) -> dict[str, Path]:
    """Write the mask of each attribute, found from the labels of data or, without, from what the network changes along its directions.

    Raises:
        FaceganError: an attribute has no direction, the data have no such labels, or nothing changes with it.
    """
    if not 0 < options.keeps <= 1:
        raise FaceganError(f"`keeps` is {options.keeps:g}: expected a share of more than 0, up to 1")
    networks = open_networks(options.network)
    generator, config = networks.generator().to(resolve_device(options.device)), networks.config
    run = RunFolder(options.network).config() if is_run(options.network) else None
    attributes = options.attributes or (run.attributes if run else ())
    data = options.data or (run.data if run and (synthetic_seed(run.data) is not None or Path(run.data).exists()) else "")
    place = Path(options.out) if options.out else located(options.network) / "masks"
    if not attributes:
        raise FaceganError("`attributes` is missing: name those to make masks of, such as `attributes=bald,beard`")
    called = plain_names(attributes)
    if data:
        size = min(config.resolution, LEARNED_AT)
        faces = open_faces(data, size, num=run.num if run else FACES, seed=run.seed if run else 0)
        rows = np.arange(len(faces.table.ids)) if options.data or run is None else learned_from(run, faces)
        energy = effects(faces, resolve(attributes, faces.table), rows)[:, 0]
    else:
        folders = [Path(options.styles)] * bool(options.styles) + [located(options.network) / "styles"]
        z = torch.from_numpy(np.random.RandomState(0).randn(FACES_MOVED, config.z_dim)).float()
        ws = generator.mapping(z.to(generator.mapping.w_avg.device)).detach().cpu()
        with tqdm(called, desc="directions", unit="attribute", disable=None) as bar:
            moved = [network_energy(generator, ws, find_direction(name, generator, folders)) for name in bar]
        energy = torch.stack(moved)
    masks = {name: tightened(energy, index, options.keeps, options.softness) for index, name in enumerate(called)}
    return dict(zip(called, write_masks(masks, place), strict=True))


def learned_from(run: TrainConfig, faces: FaceData) -> np.ndarray:
    """The rows that a run may learn from, int64: none of its joint faces, and none of the judge's."""
    groups = group(faces.table, resolve(run.attributes, faces.table), minimum=run.minimum_images)
    return split(faces.identities, groups).train


def network_energy(generator: Generator, ws: Tensor, direction: Tensor, batch: int = 16) -> Tensor:
    """How faces change along a direction [num_ws, w_dim], over ws [N, num_ws, w_dim] and their mirror images: per pixel the square of the
    mean change over the variance of faces, [R, R]. What changes one way as often as the other, such as backgrounds, cancels."""
    change = faces = squares = torch.zeros(())
    device = generator.mapping.w_avg.device
    with torch.no_grad():
        for part in ws.split(batch):
            plain, moved = (generator.synthesis(each.to(device), "const").double().cpu() for each in (part, part + direction))
            change = change + (moved - plain).sum(0)
            faces, squares = faces + plain.sum(0), squares + plain.square().sum(0)
    change, faces, squares = ((each + each.flip(2)) / (2 * len(ws)) for each in (change, faces, squares))
    return (change.square() / (squares - faces.square() + 1e-4)).mean(0).float()


def tightened(energy: Tensor, index: int, keeps: float, softness: float) -> Tensor:
    """Energies [K, R, R] -> the mask [R, R] of attribute `index`: as few pixels as hold `keeps` of its energy.

    What is spread evenly over the image, such as the background's, counts for no attribute; where another attribute changes more, a
    pixel is that one's.
    """
    smooth = gaussian_blur(energy[None], energy.shape[1] / 64)[0]
    own = (smooth - smooth.flatten(1).median(1).values[:, None, None]).clamp(min=0)
    own = own / own.flatten(1).amax(1).clamp(min=1e-12)[:, None, None]
    mine = own[index] * (own[index] >= own.amax(0))
    ordered = mine.flatten().sort(descending=True).values
    if not float(ordered[0]) > 0:
        raise FaceganError("nothing in the image changes with this attribute, so that there is no mask of it")
    count = int((ordered.cumsum(0) < keeps * ordered.sum()).sum())
    return softened((mine >= ordered[min(count, len(ordered) - 1)].clamp(min=1e-9)).float(), softness)
