"""What is compared of networks: pictures, gradients of the first order, and those of R1 and of path lengths by every parameter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from networks import Networks
from torch import Tensor, nn

BATCH = 4  # of 2 images the deviation is linear, and R1 by a bias nothing but rounding


def gradients(loss: Tensor, module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Of a loss by every parameter; zero where the loss does not depend on it. Single numbers are one tensor: each a sum that cancels."""
    names, parameters = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    by_name = {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}
    single = [gradient.flatten() for gradient in by_name.values() if gradient.numel() == 1]
    joined = {"strengths of noise": torch.cat(single)} if single else {}
    return {f"{prefix}/{name}": g for name, g in {**by_name, **joined}.items() if g.numel() > 1}


def of_networks(networks: Networks, dtype: torch.dtype, device: str) -> Mapping[str, Tensor]:
    """All of it, by name; random numbers are drawn on the CPU in float32, so that they are the same in every mode."""
    torch.manual_seed(1)

    def draw(shape: torch.Size) -> Tensor:
        return torch.randn(shape).to(device, dtype)

    found: dict[str, Tensor] = {}
    z = networks.draw(BATCH).to(device, dtype).requires_grad_()
    image, latents = networks.images(z)
    found["picture"] = image
    cotangent = draw(image.shape)
    found |= gradients((image * cotangent).sum(), networks.generator, "generator")
    image, latents = networks.images(z)
    noise = draw(image.shape) / image[0, 0].numel() ** 0.5
    (path,) = torch.autograd.grad((image * noise).sum(), latents, create_graph=True)
    found["path"] = path
    lengths = path.flatten(1).square().sum(1).sqrt()  # Karras et al. 2020, equation 4
    found |= gradients((lengths - 0.5).square().mean(), networks.generator, "path length")
    if networks.scores is not None and networks.discriminator is not None:
        reals = draw(torch.Size((BATCH, 3, networks.size, networks.size))).requires_grad_()
        scores = networks.scores(reals)
        found["scores"] = scores
        found |= gradients((scores * draw(scores.shape)).sum(), networks.discriminator, "discriminator")
        (slope,) = torch.autograd.grad(networks.scores(reals).sum(), reals, create_graph=True)
        found["slope"] = slope
        found |= gradients(slope.square().sum((1, 2, 3)).mean(), networks.discriminator, "r1")  # Mescheder et al. 2018
    return found
