from __future__ import annotations

import torch
import torch.nn.functional as F

from facegan.ops import downsample2d, setup_filter, upsample2d


def kernel(x, f, gain):
    return (torch.outer(f, f) * gain).expand(x.shape[1], 1, 4, 4)


def test_upsample2d(compare, draw, shape, device):
    f = setup_filter(device=device)

    def naive(x):
        """As written in the paper: zeros between the pixels, then the filter."""
        n, c, h, w = x.shape
        x = F.pad(x.view(n, c, h, 1, w, 1) if x.is_contiguous() else x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1))
        x = F.pad(x.reshape(n, c, 2 * h, 2 * w), (2, 1, 2, 1))
        return F.conv2d(x, kernel(x, f, 4), groups=c)

    compare(lambda x: upsample2d(x, f), naive, draw(*shape))


def test_downsample2d(compare, draw, shape, device):
    f = setup_filter(device=device)

    def naive(x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel(x, f, 1), groups=x.shape[1])[:, :, ::2, ::2]

    compare(lambda x: downsample2d(x, f), naive, draw(*shape))
