"""Triton kernels of a synthesis layer: the passes around the convolution, toRGB, and a whole layer as one kernel."""
