from __future__ import annotations

from facegan.ops import adain


def test_adain(compare, draw, shape):
    def naive(content, style):
        def moments(x):
            return x.mean((2, 3), keepdim=True), (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

        (mean_c, sigma_c), (mean_s, sigma_s) = moments(content), moments(style)
        return sigma_s * (content - mean_c) / sigma_c + mean_s

    compare(adain, naive, draw(*shape), draw(*shape))
