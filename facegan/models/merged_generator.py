"""The generator as it is sampled: G, and after the switch its merge with the frozen snapshot H by AdaIN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facegan.models.conv_gan import Generator, merged


class MergedGenerator(nn.Module):
    """G(z) merged with H(z), the same z: `mode` none, image, feature or regional (feature, inside `mask`).

    `strength` is the alpha of the merge: 0 before the switch, when H is not even evaluated.
    """

    mask: Tensor | None

    def __init__(self, generator: Generator, snapshot: Generator | None = None, mode: str = "none", mask: Tensor | None = None) -> None:
        super().__init__()
        self.generator, self.snapshot, self.mode = generator, snapshot, mode
        self.register_buffer("mask", mask)
        self.strength = 0.0
        if snapshot is not None:
            snapshot.eval().requires_grad_(False)

    @property
    def merging(self) -> bool:
        return self.snapshot is not None and self.strength > 0

    def forward(self, z: Tensor, y: Tensor | None = None, strength: Tensor | None = None) -> Tensor:
        """z [N, *z_shape], y [N, K] or None -> image [N, 3, R, R] in [-1, 1].

        `strength`: the merge's, on the device, where it changes from step to step; only looked at while `merging`.
        """
        if self.snapshot is None or not self.merging:
            return self.generator(z, y)
        alpha = self.strength if strength is None else strength
        with torch.no_grad():
            image, features = self.snapshot.run(z, y)
        if self.mode == "image":
            return merged(self.generator(z, y), image, alpha)
        mask = self.mask if self.mode == "regional" else None
        return self.generator(z, y, style=features, alpha=alpha, mask=mask)

    def with_generator(self, generator: Generator) -> MergedGenerator:
        """The same merge around another generator (the running average)."""
        other = MergedGenerator(generator, self.snapshot, self.mode, self.mask)
        other.strength = self.strength
        return other
