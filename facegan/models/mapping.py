"""StyleGAN's mapping from z and a label to styles, with its running mean and the truncation towards it (Karras et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.models.stylegan2_config import StyleGAN2Config
from facegan.nn import Linear, PixelNorm, scaled_once


class Mapping(nn.Module):
    """z [N, z_dim] (and a label c [N, c_dim]) -> w [N, num_ws, w_dim]; keeps the running mean of w for truncation.

    Without `num_ws` it yields [N, w_dim] and keeps no mean: the discriminator's embedding of a label.
    """

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config, z_dim: int, w_dim: int, num_ws: int | None) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_layers, self.num_ws = z_dim, config.c_dim, config.mapping_layers, num_ws
        self.norm = PixelNorm()
        if config.c_dim:
            self.embed = Linear(config.c_dim, w_dim)
        width = z_dim + (w_dim if config.c_dim else 0)
        for index in range(self.num_layers):
            setattr(self, f"fc{index}", Linear(width, w_dim, act=config.mapping_activation, lr_multiplier=config.mapping_lr))
            width = w_dim
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None = None, *, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """`psi` draws the first `cutoff` styles (None: all) towards the mean style: Karras et al. 2019, appendix B."""
        if z is not None and z.shape[1:] != (self.z_dim,):
            raise FaceganError(f"z has shape {list(z.shape)}; expected [N, z_dim] = [N, {self.z_dim}].")
        with scaled_once(self):
            x = self._styles(z, c)
        if self.num_ws is None:
            return x
        w = x[:, None].repeat(1, self.num_ws, 1)
        return w if psi == 1 else truncate(w, self.w_avg, psi, cutoff)

    def _styles(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = [] if z is None else [self.norm(z.float())]
        if self.c_dim:
            if c is None or c.shape[-1] != self.c_dim:
                raise FaceganError(f"StyleGAN2 is conditional: expected a label [N, {self.c_dim}], got {_shape(c)}.")
            parts.append(self.norm(self.embed(c.float())))
        x = torch.cat(parts, dim=1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        return x

    @torch.no_grad()
    def track(self, w: Tensor, beta: float = 0.995) -> None:
        """Moves the running mean towards the batch's styles [N, w_dim]."""
        self.w_avg.copy_(w.float().mean(0).lerp(self.w_avg, beta))


def truncate(w: Tensor, w_avg: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
    """w [N, num_ws, w_dim] with its first `cutoff` styles at `psi` of their distance from the mean style."""
    cutoff = w.shape[1] if cutoff is None else cutoff
    return torch.cat([w_avg.lerp(w[:, :cutoff], psi), w[:, cutoff:]], dim=1)


def _shape(x: Tensor | None) -> str:
    return "none" if x is None else str(list(x.shape))
