"""Mixes refined: the style under the mask moves towards the row's skin, and what is outside stays, while critics see what was shown.

A column's style brings the column's skin along with its beard, and a beard that stands out from one skin may not from another. Minimised
for each mix x of a row r over e, a change of every layer's style in standard deviations of the network's own styles [ours]:

    3 |skin(x) - skin(r)|_1 + 2 outside |x - r| / d + 2 sum_k max(0, g_k - s_k(x)) + 0.05 mean_layers |e|^2

skin: the mean colour of the brightest quarter of the pixels under the mask; outside: the mean over the pixels where the mask is 0, d what
two of the network's faces differ by; s_k: the score of critic k; g_k: 1 where its attribute is seen (0.5) in the row's or the column's own
face, or in the mix before, otherwise the largest of these three scores, of which none is to be lost either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.critics import Critics
from facegan.graphs import constant
from facegan.styles.mix import Renderer, batch_for
from facegan.styles.projection import own_styles
from facegan.styles.recipe import Mixture
from facegan.training.augment import LUMA

RATE, BETAS = 0.05, (0.9, 0.99)  # Adam's
SKIN, OUTSIDE, SCORES, CHANGE = 3.0, 2.0, 2.0, 0.05  # weights of the terms
SKIN_SHARE = 0.25  # of the pixels under a mask, the brightest, are taken for skin: beards, mouths and shadows are darker
SEEN = 0.5  # the score from which on a critic sees its attribute
LEAST = 1e-4  # of the mean variance, added in every direction: in some the network's styles have none
FACES = 16  # of the network, whose differences are the measure of others


class Goal(NamedTuple):
    """What N mixes are to come to."""

    faces: Tensor  # [N, C, R, R], the rows' own
    under: Tensor  # int64 [P], the pixels that are looked at for skin; there may be none
    free: Tensor  # int64 [Q], those outside the mask, likewise
    skin: Tensor | None  # [N, 3]
    scores: Tensor  # [K, N], at least


class Refiner:
    """Mixtures of regions -> mixtures whose other styles are refined, each face for itself."""

    @torch.inference_mode(False)
    def __init__(self, draw: Renderer, critics: Critics, steps: int) -> None:
        """`critics`: of images as `draw` makes them; `steps`: of Adam, 1 or more."""
        self.draw, self.critics, self.steps = draw, critics, steps
        self.batch = min(draw.batch, batch_for(draw.generator.config.resolution))  # gradients take more memory than faces
        styles = own_styles(draw.generator).double()  # [S, w_dim]
        spread = torch.cov(styles.T)
        spread += LEAST * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
        self.spread = torch.linalg.cholesky(spread).float()  # e [..., w_dim] @ its transpose: a change of styles
        faces = draw(styles[:FACES, None].float().cpu().expand(-1, draw.generator.config.num_ws, -1))
        self.apart = max(float((faces - faces.roll(1, 0)).abs().mean()), 1e-6)

    def __call__(self, mixes: Mixture, columns: Tensor) -> Mixture:
        """`columns` [N, num_ws, w_dim]: the styles that the N mixes took something of."""
        found, total = [], len(mixes)
        parts = zip(mixes.split(self.batch), columns.split(self.batch), strict=True)
        with tqdm(total=total, desc="refined", unit="face", disable=None if total > self.batch else True) as bar:
            for part, own in parts:
                with self.draw.fitting(len(part)), torch.inference_mode(False):
                    found.append(self._refined(part, own))
                bar.update(len(part))
        return replace(mixes, others=torch.cat(found))

    def _refined(self, part: Mixture, columns: Tensor) -> Tensor:
        assert part.others is not None
        mask = None if part.mask is None else part.mask.clone()  # of a caller's inference mode there may be no gradient
        part = replace(part, ws=part.ws.clone(), others=part.others.clone(), mask=mask)
        goal = self.goal(part, columns.clone())
        e = torch.zeros(columns.shape, device=self.draw.device, requires_grad=True)
        optimizer = torch.optim.Adam([e], lr=RATE, betas=BETAS)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                self.losses(part, e, goal).sum().backward()
                optimizer.step()
        return self._moved(part, e.detach()).to(columns)

    @torch.no_grad()
    def goal(self, part: Mixture, columns: Tensor) -> Goal:
        """What mixes are to come to."""
        assert part.mask is not None
        faces, *others = (self.draw.differentiable(each) for each in (Mixture(part.ws), Mixture(columns), part))
        shown = torch.stack([self.critics.scores(images) for images in (faces, *others)]).amax(0)
        under, free = (places.to(self.draw.device) for places in (under_mask(part.mask), outside_mask(part.mask)))
        return Goal(faces, under, free, skin(faces, under) if len(under) else None, torch.where(shown > SEEN, 1.0, shown))

    def losses(self, part: Mixture, e: Tensor, goal: Goal) -> Tensor:
        """What is minimised over e [N, num_ws, w_dim], for each of N mixes."""
        images = self.draw.differentiable(replace(part, others=self._moved(part, e)))
        losses = CHANGE * e.square().sum(2).mean(1) + SCORES * (goal.scores - self.critics.scores(images)).clamp(min=0).sum(0)
        if goal.skin is not None:
            losses = losses + SKIN * (skin(images, goal.under) - goal.skin).abs().sum(1)
        if len(goal.free):
            losses = losses + OUTSIDE / self.apart * (images - goal.faces).flatten(2)[..., goal.free].abs().mean((1, 2))
        return losses

    def _moved(self, part: Mixture, e: Tensor) -> Tensor:
        assert part.others is not None
        return part.others.to(e) + e @ self.spread.T


def under_mask(mask: Tensor) -> Tensor:
    """The pixels int64 [P], row by row, where a mask [1, 1, R, R] is above 0.5."""
    return (mask.flatten() > 0.5).nonzero().flatten()


def outside_mask(mask: Tensor) -> Tensor:
    """Those where it is 0."""
    return (mask.flatten() <= 0).nonzero().flatten()


def skin(images: Tensor, under: Tensor) -> Tensor:
    """The mean colour [N, 3] of the brightest quarter of some pixels [P], at least one, of images [N, 3, R, R]: of a face's lower half,
    what is neither beard nor mouth nor shadow."""
    pixels = images.flatten(2)[..., under].float()
    luma = (pixels * constant(LUMA, pixels.device, pixels.dtype)[:, None]).sum(1)
    brightest = luma.topk(max(1, round(SKIN_SHARE * luma.shape[1])), dim=1).indices
    return pixels.gather(2, brightest[:, None].expand(-1, pixels.shape[1], -1)).mean(2)
