"""The operators of facegan: each with a PyTorch reference, gradients of every order and room for faster kernels."""

from __future__ import annotations

from facegan.ops.adain import adain, adain_affine, adain_affine_ref, adain_ref
from facegan.ops.bias_act import bias_act, bias_act_ref
from facegan.ops.conv2d import conv2d, conv2d_ref, conv2d_resample, no_weight_gradients
from facegan.ops.conv2d_bias_act import conv2d_bias_act, conv2d_bias_act_ref, conv2d_layer
from facegan.ops.filtered_lrelu import filtered_lrelu, filtered_lrelu_ref
from facegan.ops.linear import linear
from facegan.ops.modulated_conv2d import modulated_conv2d, modulated_conv2d_ref
from facegan.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upfirdn2d_ref, upsample2d

__all__ = [
    "adain",
    "adain_affine",
    "adain_affine_ref",
    "adain_ref",
    "bias_act",
    "bias_act_ref",
    "conv2d",
    "conv2d_bias_act",
    "conv2d_bias_act_ref",
    "conv2d_layer",
    "conv2d_ref",
    "conv2d_resample",
    "downsample2d",
    "filter2d",
    "filtered_lrelu",
    "filtered_lrelu_ref",
    "linear",
    "modulated_conv2d",
    "modulated_conv2d_ref",
    "no_weight_gradients",
    "setup_filter",
    "upfirdn2d",
    "upfirdn2d_ref",
    "upsample2d",
]
