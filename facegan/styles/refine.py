"""Mixes refined: the style under the mask is moved until the row's skin and all that is outside stay, and critics see what both faces show.

A column's style brings the column's skin along with its beard, and a beard that stands out from one skin may not from another. Minimised
for each mix x of a row r over e, a change of every layer's style in standard deviations of the network's own styles [ours]:

    3 |skin(x) - skin(r)|_1 + 2 outside |x - r| / d + 2 sum_k max(0, 1 - s_k(x)) + 0.05 mean_layers |e|^2

skin: the mean colour of the brightest quarter of the pixels under the mask; outside: the mean over the pixels where the mask is 0, d what
two of the network's faces differ by; s_k: the score of critic k, of those that see their attribute in the row's or the column's own face,
or in the mix before.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from facegan.checkpoints.critics import Critics
from facegan.graphs import constant
from facegan.styles.projection import own_styles
from facegan.styles.recipe import Mixture
from facegan.styles.rendering import Renderer
from facegan.training.augment import LUMA

RATE, BETAS = 0.05, (0.9, 0.99)  # Adam's
SKIN, OUTSIDE, SCORES, CHANGE = 3.0, 2.0, 2.0, 0.05  # weights of the terms
SKIN_SHARE = 0.25  # of the pixels under a mask, the brightest, are taken for skin: beards, mouths and shadows are darker
SEEN = 0.5  # the score from which on a critic sees its attribute
LEAST = 1e-4  # of the mean variance, added in every direction: in some the network's styles have none
FACES = 16  # of the network, whose differences are the measure of others


class Refiner:
    """Mixtures of regions -> mixtures whose other styles are refined, each face for itself."""

    def __init__(self, draw: Renderer, critics: Critics, steps: int) -> None:
        """`critics`: of images as `draw` makes them; `steps`: of Adam, 1 or more."""
        self.draw, self.critics, self.steps = draw, critics, steps
        styles = own_styles(draw.generator).double()  # [S, w_dim]
        spread = torch.cov(styles.T)
        spread += LEAST * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
        self.spread = torch.linalg.cholesky(spread).float()  # e [..., w_dim] @ its transpose: a change of styles
        faces = draw(styles[:FACES, None].float().cpu().expand(-1, draw.generator.config.num_ws, -1))
        self.apart = float((faces - faces.roll(1, 0)).abs().mean())

    def __call__(self, mixes: Mixture, columns: Tensor) -> Mixture:
        """`columns` [N, num_ws, w_dim]: the styles that the N mixes took something of."""
        found = []
        for part, own in zip(mixes.split(self.draw.batch), columns.split(self.draw.batch), strict=True):
            with self.draw.fitting(len(part)):
                found.append(self._refined(part, own))
        return replace(mixes, others=torch.cat(found))

    def _refined(self, part: Mixture, columns: Tensor) -> Tensor:
        assert part.others is not None and part.mask is not None
        device = self.draw.device
        with torch.no_grad():
            faces, *shown = (self.draw.differentiable(each) for each in (Mixture(part.ws), Mixture(columns), part))
            wanted = torch.stack([self.critics.scores(images) for images in (faces, *shown)]).amax(0) > SEEN  # [K, N]
        mask = part.mask.to(device)
        target, e = skin(faces, mask), torch.zeros_like(part.others, device=device, requires_grad=True)
        optimizer, began = torch.optim.Adam([e], lr=RATE, betas=BETAS), part.others.to(device)
        with torch.enable_grad():
            for _ in range(self.steps):
                images = self.draw.differentiable(replace(part, others=began + e @ self.spread.T))
                loss = CHANGE * e.square().sum(2).mean(1)
                loss = loss + SCORES * ((1 - self.critics.scores(images)).clamp(min=0) * wanted).sum(0)
                tone = skin(images, mask)
                if tone is not None and target is not None:
                    loss = loss + SKIN * (tone - target).abs().sum(1)
                loss = loss + OUTSIDE / self.apart * outside(images, faces, mask)
                optimizer.zero_grad()
                loss.sum().backward()
                optimizer.step()
        return (began + e.detach() @ self.spread.T).to(part.others)


def skin(images: Tensor, mask: Tensor) -> Tensor | None:
    """The mean colour [N, 3] of the brightest quarter of the pixels of images [N, 3, R, R] where a mask [1, 1, R, R] is above 0.5: of a
    face's lower half, what is neither beard nor mouth nor shadow. None where there are none."""
    under = mask[0, 0] > 0.5
    if not bool(under.any()):
        return None
    pixels = images[..., under].float()
    luma = (pixels * constant(LUMA, pixels.device, pixels.dtype)[:, None]).sum(1)
    brightest = luma.topk(max(1, round(SKIN_SHARE * luma.shape[1])), dim=1).indices
    return pixels.gather(2, brightest[:, None].expand(-1, pixels.shape[1], -1)).mean(2)


def outside(images: Tensor, faces: Tensor, mask: Tensor) -> Tensor:
    """How much images differ from faces [N, C, R, R] where a mask [1, 1, R, R] is 0: the mean [N]; 0 where it is 0 nowhere."""
    free = mask[0, 0] <= 0
    return (images - faces)[..., free].abs().mean((1, 2)) if bool(free.any()) else images.new_zeros(len(images))
