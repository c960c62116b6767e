"""StyleGAN's operators in a model of your own: a small discriminator and its R1 penalty, which needs gradients of gradients."""

import torch
from torch import nn

from facegan.ops import bias_act, downsample2d, modulated_conv2d, setup_filter


class Discriminator(nn.Module):
    """Images [N, 3, H, W] -> scores [N]; a style [N, 3] scales the colours that the first layer looks at."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(width, 3, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))
        self.last = nn.Linear(width, 1)
        self.register_buffer("blur", setup_filter([1, 3, 3, 1]))

    def forward(self, images: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = modulated_conv2d(images, self.first, style, padding=1)  # weights scaled by style, and normalised again
        x = bias_act(x, self.bias)  # bias, leaky ReLU and gain in one pass
        x = downsample2d(x, self.blur)  # halved without aliasing
        return self.last(x.mean((2, 3)))[:, 0]


torch.manual_seed(0)
discriminator = Discriminator()
images, style = torch.randn(4, 3, 16, 16, requires_grad=True), torch.ones(4, 3)
scores = discriminator(images, style)
(gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
r1 = gradient.square().sum((1, 2, 3)).mean()  # Mescheder et al. 2018: how steep it is at the images
(nn.functional.softplus(-scores).mean() + 5 * r1).backward()
print(f"R1 {r1.item():.4f}; the first layer's gradient {discriminator.first.grad.norm():.4f}")
