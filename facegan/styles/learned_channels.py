"""`facegan styles channels`: which channels of style space act in an attribute's region, and differ between faces with it and others.

After Wu et al. 2021, "StyleSpace Analysis: Disentangled Controls for StyleGAN Image Generation": its section 4 compares maps of the
gradients of single channels with semantic regions, its section 5 the channels of some faces with an attribute with those of random faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, is_run
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, Synthesis
from facegan.options import StylesChannels
from facegan.styles.channels import MOST, SUFFIX, Channel, Ranking
from facegan.styles.masks import find_mask, mask_folders, plain_names
from facegan.styles.mix import batch_for, stacked
from facegan.styles.store import resolve

PROBES = 4  # random projections of each face
RANDOM = 2000  # faces, of which the styles alone are needed: their mean and standard deviation


def learn(options: StylesChannels) -> dict[str, Path]:
    """Write the ranking of each attribute's channels.

    Raises:
        FaceganError: an attribute has no styles or no mask, the network is conditional, or nothing changes under the mask.
    """
    options.at_least(1, "faces")
    generator = open_networks(options.network).generator().to(resolve_device(options.device))
    network = located(options.network)
    run = RunFolder(options.network).config() if is_run(options.network) else None
    attributes = plain_names(options.attributes or (run.attributes if run else ()))
    if not attributes:
        raise FaceganError("`attributes` is missing: name those whose channels are wanted, such as `attributes=bald,beard`")
    if generator.config.c_dim:
        raise FaceganError(f"{options.network} is conditional, so that seeds alone are no faces to compare with: name another network")
    place = Path(options.out) if options.out else network / "channels"
    libraries = [Path(options.styles)] * bool(options.styles) + [network / "styles"]
    folders = mask_folders(options.styles, network)
    masks = [find_mask(options.mask or name, folders) for name in attributes]  # before minutes of work
    columns = [stacked(resolve([_place(name, libraries)], generator, libraries)) for name in attributes]
    z = torch.from_numpy(np.random.RandomState(0).randn(max(RANDOM, options.faces), generator.config.z_dim)).float()
    points = of_styles(generator, generator.mapping(z.to(generator.mapping.w_avg.device)))
    paths = {}
    side = generator.config.resolution
    for name, mask, ws in zip(attributes, masks, columns, strict=True):
        found = energies(generator.synthesis, points[: options.faces], mask.at(side), batch=batch_for(side), name=name)
        own = of_styles(generator, ws.to(points.device))
        paths[name] = place / f"{name}{SUFFIX}"
        Ranking(name, mask.name, options.faces, ranked(generator, found, own, points)).write(paths[name])
    return paths


def _place(name: str, libraries: Sequence[Path]) -> str:
    """The folder of an attribute's styles, where they are one; else its name, which `resolve` looks up."""
    return str(next((library / name for library in libraries if (library / name).is_dir()), name))


@torch.no_grad()
def of_styles(generator: Generator, ws: Tensor) -> Tensor:
    """ws [N, num_ws, w_dim] -> points of style space [N, num_style_channels]."""
    return torch.cat([generator.synthesis.style_space(part) for part in ws.split(256)])


def energies(
    synthesis: Synthesis, points: Tensor, mask: Tensor, probes: int = PROBES, seed: int = 0, batch: int = 8, name: str = "channels"
) -> Tensor:
    """Each channel's energy under a mask m and outside of it, as the mean over faces: the sum over pixels p of
    m_p (d image_p / d channel)^2, and the same of 1 - m_p: float64 [2, num_style_channels].

    Estimated for all channels at once, after Hutchinson 1989: for v ~ N(0, I) the squared gradient of v^T sqrt(m) image is expected to
    be the energy. Its standard deviation is sqrt 2 of it for one v and face, so that over 64 faces and 4 probes it is about 9 %.

    Args:
        points: [N, num_style_channels].
        mask: [1, 1, R, R] in [0, 1].
        probes: random v of each face.
        batch: faces at once.
    """
    random = torch.Generator().manual_seed(seed)
    roots = [part.clamp(min=0).sqrt().to(points.device) for part in (mask, 1 - mask)]
    total = torch.zeros(2, points.shape[1], dtype=torch.float64)
    for part in tqdm(points.split(batch), desc=name, unit="batch", disable=None):
        leaf = part.detach().clone().requires_grad_()
        with torch.enable_grad():
            image = synthesis(leaf, "const")
            for _ in range(probes):
                v = torch.randn(image.shape, generator=random).to(image)
                for index, root in enumerate(roots):
                    (gradient,) = torch.autograd.grad((image * v * root).sum(), leaf, retain_graph=True)
                    total[index] += gradient.double().square().sum(0).cpu()
    return total / (len(points) * probes)


def ranked(generator: Generator, energy: Tensor, own: Tensor, random: Tensor) -> tuple[Channel, ...]:
    """The channels by inside * effect, see `Channel`, at most `MOST`.

    A channel must act in the region, differ where the attribute is, and matter: one that is far from its mean may change nothing [ours;
    the paper orders localised channels by their distance].

    Args:
        energy: [2, num_style_channels], under the mask and outside.
        own: points of style space [K, num_style_channels] of faces with the attribute.
        random: [N, num_style_channels], of random faces.
    """
    own, random = own.double().cpu(), random.double().cpu()
    shift, spread = own.mean(0) - random.mean(0), random.std(0, correction=0)
    inside = energy[0] / energy.sum(0).clamp(min=1e-30)
    effect = energy[0].sqrt() * shift.abs()
    distance = torch.where(spread > 0, shift / spread.clamp(min=1e-30), 0.0)
    places = [(layer, channel) for layer, count in generator.config.style_channels.items() for channel in range(count)]
    order = (inside * effect).argsort(descending=True, stable=True).tolist()
    kept = [index for index in order if float(effect[index]) > 0][:MOST]
    if not kept:
        raise FaceganError("no channel changes anything under the mask in which these styles differ from random faces: name another `mask`")
    return tuple(
        Channel(*places[index], *(float(f"{float(values[index]):.4g}") for values in (inside, distance, effect))) for index in kept
    )
