"""One classifier of the judge: a small convolutional net in plain ``torch.nn`` and how it is fitted.

Nothing here is shared with the generator's side, neither layers nor augmentation nor randomness: a judge is worth
what it has *not* in common with the critics. The regime is tens of images with noisy labels (7 to 20 % of CelebA's
"Bald" are not bald), hence few channels, heavy augmentation, label smoothing with bootstrapping, and an average of
the weights over the steps.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from facegan.evaluation.judge.degradation import STRONG, augment, blend, degrade, keep_labels, stream


@dataclass(frozen=True)
class JudgeConfig:
    """How the judge learns. The defaults were measured on synthetic faces (32 px) and CelebA (64 px)."""

    seed: int = 20_011  # apart from every training seed, so that nothing correlates by accident
    steps: int = 500  # per classifier
    batch: int = 64
    width: int = 16  # twice that after the stem, 4 x at the end
    resolution: int = 32  # larger images are shrunk to this: on CelebA as good as 64 px, and blind to fine artefacts
    lr: float = 8e-3  # peak, AdamW; linear warm-up over 5 %, then cosine to 0
    weight_decay: float = 0.05
    ema: float = 0.98  # of the weights, per step
    smoothing: float = 0.03  # labels become 0.03 and 0.97
    bootstrap: float = 0.1  # share of the net's own opinion in the target (Reed et al. 2015, "soft")
    shares: tuple[float, float, float] = (0.55, 0.2, 0.25)  # of clean, mildly and strongly spoiled images in a batch
    ramp: float = 0.6  # share of the steps in which spoiling grows to that: thin lines are learned from clean faces
    auxiliary: float = 1.0  # weight of the table's other columns, which teach what faces are; 0 leaves them out
    blend: float = 0.15  # share of images averaged with another
    validation: float = 0.15  # of the identities, for the choice of step and temperature
    checks: int = 5  # validations in the second half of the fit


class JudgeNet(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> logits [N, K]; faces are aligned, so the head keeps a 4 x 4 map of places."""

    def __init__(self, num_attributes: int, width: int) -> None:
        super().__init__()
        plan = ((12, 2, 1), (2 * width, 2, 2), (2 * width, 4, 1), (4 * width, 4, 2), (4 * width, 4, 1))
        # half the resolution without loss: a strided convolution of few channels would drop a thin moustache
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for inputs, times, stride in plan:
            outputs = times * width
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width * 16, num_attributes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images.contiguous(memory_format=torch.channels_last))
        return self.head(F.adaptive_avg_pool2d(maps, 4).flatten(1))


def new_net(num_attributes: int, width: int, generator: torch.Generator) -> JudgeNet:
    """A fresh net drawn from ``generator``; it starts on the meta device, so that the global state is left alone."""
    with torch.device("meta"):
        net = JudgeNet(num_attributes, width)
    net = net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.reset_parameters()  # ones and zeros: not random
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            gain = math.sqrt(2.0) if isinstance(module, nn.Conv2d) else 0.1
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Material:
    """What one classifier learns from."""

    images: Tensor  # uint8 [N, 3, R, R]
    labels: Tensor  # float32 [N, K + C], NaN where unknown: the K attributes, then C other columns of the table
    strata: tuple[np.ndarray, ...]  # positions in ``images``; every stratum fills an equal share of each batch
    validation: np.ndarray  # positions kept out of all strata
    num_attributes: int  # K


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def masked_loss(logits: Tensor, labels: Tensor, hard: Tensor, smoothing: float, bootstrap: float) -> Tensor:
    """[K] binary cross-entropy over the known labels only: NaN labels give neither loss nor gradient.

    The two sides of each column weigh the same among the images that are not ``hard`` (bool [N]: strongly spoiled,
    so that only zeros are left); the hard ones come on top, with a negative's weight. Counting them among the negatives
    would thin out the clean ones, and tilt the verdict on clean faces towards "yes".
    """
    known = ~labels.isnan()
    truth = labels.nan_to_num(0.0)
    target = truth * (1 - 2 * smoothing) + smoothing
    target = (1 - bootstrap) * target + bootstrap * logits.detach().sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    sides = torch.stack([known & (truth > 0.5), known & (truth < 0.5)]).to(loss.dtype)  # [2, N, K]
    count = (sides * ~hard[:, None]).sum(1, keepdim=True)
    weight = (sides / count.clamp(min=1)).sum(0)
    return (loss * weight).sum(0) / weight.sum(0).clamp(min=1e-8)


def balanced_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """[K] cross-entropy per attribute in which positives and negatives weigh the same."""
    each = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0), reduction="none")
    sides = [torch.where(labels == side, each, torch.nan).nanmean(0) for side in (1, 0)]
    return torch.stack(sides).nanmean(0).nan_to_num(0.0)


def draw_batch(material: Material, config: JudgeConfig, hardness: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """An equal share of every stratum, spoiled: float images [B, 3, R, R], labels [B, K], which are hard [B].

    ``hardness`` in [0, 1] scales the shares of spoiled images. Everything random is drawn on the CPU, and so the same on every
    device; images are spoiled where the material's are.
    """
    strata = [s for s in material.strata if len(s)]
    turn = (torch.arange(config.batch) + torch.randint(len(strata), (1,), generator=generator)) % len(strata)
    draw = torch.rand(config.batch, generator=generator).tolist()
    place = torch.tensor([strata[t][int(u * len(strata[t]))] for t, u in zip(turn.tolist(), draw, strict=True)])
    _, mild, strong = config.shares
    cuts = torch.tensor([1 - hardness * (mild + strong), 1 - hardness * strong])
    strength = torch.bucketize(torch.rand(config.batch, generator=generator), cuts, right=True)  # CLEAN, MILD, STRONG
    images = augment(to_float(material.images[place]), generator, strength)
    # a partner of the same stratum (the strata repeat every len(strata) rows) usually agrees about the labels
    partner = torch.arange(config.batch).roll(-len(strata))
    mixed = torch.rand(config.batch, generator=generator) < config.blend
    weight = torch.where(mixed, 0.2 + 0.3 * torch.rand(config.batch, generator=generator), 0.0)
    images, labels = blend(images, material.labels[place], partner, weight)
    return degrade(images, generator, strength), keep_labels(labels, strength), strength == STRONG


@torch.no_grad()
def logits_of(net: JudgeNet, images: Tensor, batch: int = 256) -> Tensor:
    """Mean logits of a face and its mirror image, [N, K] on the CPU; ``images`` float in [-1, 1] or uint8."""
    device = next(net.parameters()).device
    out = [torch.empty(0, net.head.out_features)]
    for part in images.split(batch) if len(images) else ():  # PixelUnshuffle does not take an empty batch
        part = part.to(device)
        part = to_float(part) if part.dtype == torch.uint8 else part
        out.append(((net(part) + net(part.flip(-1))) / 2).float().cpu())
    return torch.cat(out)


def fit(material: Material, config: JudgeConfig, member: int, device: torch.device, bar: tqdm) -> tuple[JudgeNet, dict]:
    """Fit classifier ``member`` (0 or 1): returns the averaged net of the best validation and its record. Its outputs are
    the attributes' logits, then those of the other columns.

    Every random number depends on (seed, member, step) alone, so a fit is the same in any process.
    """
    net = new_net(material.labels.shape[1], config.width, stream(config.seed, member, 0)).to(device)
    average, wanted = copy.deepcopy(net), material.num_attributes
    optimiser = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    held_images, held_labels = material.images[material.validation], material.labels[material.validation]
    material = replace(material, images=material.images.to(device), labels=material.labels.to(device))
    checks = {config.steps - round(i * config.steps / 2 / config.checks) for i in range(config.checks)}
    best, best_state, best_step = math.inf, net.state_dict(), 0
    for step in range(1, config.steps + 1):
        rise = min(1.0, step / max(1.0, 0.05 * config.steps))
        hardness = min(1.0, step / max(1.0, config.ramp * config.steps))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * rise * (1 + math.cos(math.pi * step / config.steps)) / 2
        images, labels, hard = draw_batch(material, config, hardness, stream(config.seed, member, step))
        losses = masked_loss(net(images), labels, hard.to(device), config.smoothing, config.bootstrap)
        loss = losses[:wanted].mean() + (config.auxiliary * losses[wanted:].mean() if len(losses) > wanted else 0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        decay = min(config.ema, step / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        bar.update()
        if step in checks:
            score = float(balanced_nll(logits_of(average, held_images)[:, :wanted], held_labels[:, :wanted]).sum())
            if score < best:
                best, best_step = score, step
                best_state = {name: value.clone() for name, value in average.state_dict().items()}
    average.load_state_dict(best_state)
    return average.eval().requires_grad_(False), {"step": best_step, "validation_nll": best}


def temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """[K] temperatures of least balanced cross-entropy on held-out faces (Guo et al. 2017), by a grid search."""
    grid = torch.logspace(math.log10(0.25), math.log10(4.0), 49)
    scores = torch.stack([balanced_nll(logits / t, labels) for t in grid])  # [49, K]
    return grid[scores.argmin(0)]
