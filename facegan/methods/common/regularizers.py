"""Penalties on gradients, of both methods; each is the first of two backward passes, so convolutions skip their weights there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facegan.ops import no_weight_gradients


def r1_penalty(scores: Tensor, images: Tensor, gamma: float) -> Tensor:
    """gamma / 2 E |grad_x D(x)|^2 on real images (Mescheder et al. 2018, eq. 9); `images` require grad."""
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gamma / 2 * gradient.square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, ws: Tensor, y: Tensor) -> Tensor:
    """|J_w^T y| [N] of images [N, 3, H, W] by their styles ws [N, num_ws, w_dim] (Karras et al. 2020a, eq. 4).

    `y`: standard normal, of the images' shape. The squares are summed over w and averaged over the layers that w enters.
    """
    height, width = images.shape[2:]
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad((images * y).sum() / math.sqrt(height * width), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
