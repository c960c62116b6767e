"""All discriminators of a stage behind one `forward`, so that one DDP wrapper and one backward serve them together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facegan.models.conv_gan import Discriminator, DiscriminatorConfig


class RegionalDiscriminator(nn.Module):
    """A discriminator that sees an image only through a soft mask [1, 1, R, R], cropped to the rows the mask covers.

    What it cannot see it cannot punish: the one for `bald` learns from faces without beards and never objects to a beard.
    """

    mask: Tensor | None

    def __init__(self, mask: Tensor | None, resolution: int, width: float, num_attributes: int = 0, deviation: bool = True) -> None:
        super().__init__()
        top, bottom = (0, resolution) if mask is None else covered_rows(mask)
        self.rows = slice(top, bottom)
        self.register_buffer("mask", None if mask is None else mask[:, :, self.rows].contiguous())
        self.network = Discriminator(DiscriminatorConfig(bottom - top, resolution, width, num_attributes, deviation))

    def forward(self, image: Tensor, y: Tensor | None = None) -> Tensor:
        if self.mask is not None:
            image = image[:, :, self.rows] * self.mask
        return self.network(image, y)

    def inherit(self, weights: dict[str, Tensor]) -> None:
        """Start from a full-image discriminator's weights, of its last map only the rows that this one sees."""
        full = weights["hidden.weight"].unflatten(1, (self.network.final.weight.shape[0], 4, 4))
        shrink = self.network.config.width_px // 4
        top = self.rows.start // shrink
        rows = full[:, :, top : top + self.network.config.height // shrink].flatten(1)
        # The equalised layer divides by the root of its inputs' number: fewer inputs, smaller stored weights.
        rows = rows * (rows.shape[1] / weights["hidden.weight"].shape[1]) ** 0.5
        self.network.load_state_dict({**weights, "hidden.weight": rows})


def covered_rows(mask: Tensor, threshold: float = 0.02) -> tuple[int, int]:
    """First and last row that the mask lets through, widened to multiples of an eighth of the height and at least a quarter."""
    height = mask.shape[2]
    step = max(1, height // 8)
    rows = (mask.amax(dim=(0, 1, 3)) > threshold).nonzero().flatten()
    if len(rows) == 0:
        return 0, height
    top, bottom = int(rows[0]) // step * step, -(-(int(rows[-1]) + 1) // step) * step
    top = min(top, height - 2 * step)
    return top, max(bottom, top + 2 * step)


class Discriminators(nn.Module):
    """members[j] scores its own reals and the shared fakes."""

    def __init__(self, members: Sequence[RegionalDiscriminator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, reals: Sequence[Tensor], fakes: Sequence[Tensor], labels: Sequence[Tensor | None], y: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Images [N, 3, R, R] for each member -> (scores of its reals [N], scores of its fakes [N]) for each."""
        scores = []
        for member, real, fake, label in zip(self.members, reals, fakes, labels, strict=True):
            both = None if label is None or y is None else torch.cat([label, y])
            score = member(torch.cat([real, fake]), both)
            scores.append((score[: len(real)], score[len(real) :]))
        return scores
