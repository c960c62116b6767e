"""`facegan generate`: faces of a run as PNG files and a grid."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.networks import is_network, open_networks
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.generators import TrainedRun, parse_seeds, random_noise
from facegan.graphs import Graphed
from facegan.models.stylegan2 import NoiseMode
from facegan.training.config import numbers
from facegan.training.pictures import picture_of, save_png, sheet, to_pil

log = logging.getLogger("facegan.generate")


def generate(
    run: str,
    seeds: str,
    out: str,
    stage: str = "",
    best: int = 0,
    truncation: float = 1.0,
    noise_mode: NoiseMode = "const",
    label: str = "",
    device: str = AUTO,
    cuda_graphs: str = "auto",
) -> None:
    """Write `out/seed0000.png` ... and `out/grid.png`; with `best`, only the seeds that the run's own critics prefer."""
    if best < 0:
        raise FaceganError(f"--best is {best}: expected 1 or more, or 0 for every seed")
    place = resolve_device(device)
    if is_network(run):
        if stage or best:
            raise FaceganError(f"{run} is a network: --stage and --best go with a run of Method A")
        return generate_from_network(run, parse_seeds(seeds), Path(out), truncation, noise_mode, label, place, cuda_graphs)
    if truncation != 1 or noise_mode != "const" or label:
        raise FaceganError(f"{run} is a run without styles: --truncation, --noise-mode and --label go with StyleGAN2 networks")
    trained, chosen, folder = TrainedRun(run, stage, place, cuda_graphs), parse_seeds(seeds), Path(out)
    images = trained.faces(chosen)
    if best:
        scores = trained.critic_scores(images)
        if scores is None:
            raise FaceganError(f"--best needs critics, and {run} has none: train it with --critics all")
        if trained.without_critic():
            log.warning("--best goes by %s alone: this run has no critic for %s; train with --critics all to judge every attribute",
                        ", ".join(trained.critic_facts()), ", ".join(trained.without_critic()))  # fmt: skip
        order = scores.argsort(descending=True, stable=True)[:best].sort().values
        images, chosen = images[order], [chosen[index] for index in order.tolist()]
    for seed, image in zip(tqdm(chosen, desc="faces", unit="face"), images, strict=True):
        save_png(to_pil(image), folder / f"seed{seed:04d}.png")
    save_png(sheet(images), folder / "grid.png")
    print(folder / "grid.png")


def generate_from_network(
    path: str, seeds: list[int], folder: Path, truncation: float, noise_mode: NoiseMode, label: str, device: torch.device,
    cuda_graphs: str = "auto",
) -> None:  # fmt: skip
    """The faces that NVIDIA's generate.py makes of these seeds: z from RandomState(seed), pixels x * 127.5 + 128, clipped."""
    generator = open_networks(path).generator().to(device)
    c = parsed_label(label, generator.config.c_dim, path)

    def face(z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        image: Tensor = generator(z, c, psi=truncation, noise_mode=noise_mode, noise=noise)
        return image

    graphed = Graphed(face, device, cuda_graphs, name="the generator")
    images = []
    for seed in tqdm(seeds, desc="faces", unit="face"):
        z = np.random.RandomState(seed).randn(1, generator.config.z_dim).astype(np.float32)
        noise = random_noise(generator.config, noise_mode, 1, device, seed)
        image = graphed(z, c, noise)[0]
        pixels = (image.permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu()
        save_png(picture_of(pixels.numpy()), folder / f"seed{seed:04d}.png")
        images.append(image.cpu())
    save_png(sheet(torch.stack(images)), folder / "grid.png")
    print(folder / "grid.png")


def parsed_label(label: str, c_dim: int, path: str) -> Tensor | None:
    """`"1,0"` -> [1, c_dim]; None for a network without labels."""
    if not c_dim and not label:
        return None
    if not c_dim:
        raise FaceganError(f"--label is {label!r}, but {path} knows no labels: leave it away")
    values = numbers(label, "label", float) if label else []
    if len(values) != c_dim:
        raise FaceganError(f"--label is {label!r}, {len(values)} number(s): {path} expects {c_dim}, such as {','.join('1' * c_dim)}")
    return torch.tensor([values])
