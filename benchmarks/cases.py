"""What is measured: operators x orders of gradient x shapes of StyleGAN2-256, StyleGAN2-1024 and Method A.

Sets, by `select(name)`: `cpu` (two cores, minutes), `check` (one GPU, what the bars need first, for `make gpu-check`), `full` (one
GPU, the whole grid, hours) and `tiny` (seconds, to try the machinery). `benchmarks.kernel_check` compiles the kernels for the shapes
of `check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import torch

from facegan.methods.b.config import PRESETS

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What can be had on a device besides the reference; the backend that a case asks for is skipped with its reason when missing.
BACKENDS = {"cpu": ("native",), "cuda": ("triton", "native")}

STREAMING = ("bias_act", "upsample2d", "downsample2d", "filter2d", "adain", "adain_affine")  # bound by memory
LAYERS = ("modulated_conv2d", "modulated_conv2d_up", "to_rgb")
REGIONAL = ("regional_conv2d", "regional_conv2d_up")  # whose styles vary by pixel
FILTERED = ("filtered_lrelu", "filtered_lrelu_radial")  # StyleGAN3-T's and -R's nonlinearity
OPS = (*STREAMING, *LAYERS, "conv2d")
STEPS = ("stylegan2_step", "stylegan2_r1", "stylegan2_path_length")
NETWORK_OPS = ("generator", "stylegan2_forward", "regional_mix", "blended_mix", "restorer", *STEPS)  # of which images a second are told
# fwd: inference; bwd: backward alone; fwd+bwd; double: a gradient penalty (gradient by x, then the gradient of that);
# graph: fwd+bwd replayed from a CUDA graph, in which small maps do not wait for launches; step: of a training, optimisers included
ORDERS = ("fwd", "bwd", "fwd+bwd", "double")
COMPILED_ORDERS = ("fwd", "fwd+bwd")  # torch.compile rejects double backward, and its backward is not callable alone


@dataclass(frozen=True)
class Case:
    """One operator at one shape; `size` is that of the larger map: an upsampling's result, a downsampling's input."""

    op: str
    order: str
    network: str
    n: int
    c: int
    size: int
    c_in: int  # input channels of an upsampling layer, whose input lies at half the size
    dtype_name: str
    layout: str

    @property
    def dispatched(self) -> str | None:
        """The op of the registry that a backend has to serve; None for conv2d, of which there is one implementation."""
        if self.op in ("upsample2d", "downsample2d", "filter2d"):
            return "upfirdn2d"
        if self.op in FILTERED:
            return "filtered_lrelu"
        if self.op in (*LAYERS, *REGIONAL, *NETWORK_OPS):
            return "modulated_conv2d"
        return None if self.op == "conv2d" else self.op

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the larger map, [N, C, H, W]."""
        return self.n, self.c, self.size, self.size

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.dtype_name]

    @property
    def memory_format(self) -> torch.memory_format:
        return LAYOUTS[self.layout]

    @property
    def elements(self) -> int:
        """Of the larger map."""
        return self.n * self.c * self.size**2

    @property
    def map_bytes(self) -> int:
        """Of the larger map."""
        return self.elements * self.dtype.itemsize

    @property
    def group(self) -> str:
        """Of `plan.GROUPS`."""
        if self.op in STREAMING:
            return "streaming"
        return "training" if self.op in STEPS else "layers"

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.op}-{self.order}-{shape}-{self.dtype_name}-{self.layout}"


def stylegan2_channels(channel_base: int, size: int) -> int:
    """Feature maps at `size` px (Karras et al. 2020: base 32768; their 256 px models use half)."""
    return min(channel_base // size, 512)


def _maps(channel_base: int, resolution: int) -> tuple[tuple[int, int], ...]:
    sizes = [4 << i for i in range((resolution // 4).bit_length())]
    return tuple((stylegan2_channels(channel_base, size), size) for size in sizes)


# network -> (feature maps, px) of its blocks, smallest first
NETWORKS = {"stylegan2-256": _maps(16384, 256), "stylegan2-1024": _maps(32768, 1024), "method-a": ((128, 8), (64, 16), (32, 32), (16, 64))}


def block(
    network: str,
    ops: Iterable[str],
    orders: Iterable[str],
    sizes: Iterable[int],
    batches: Iterable[int] = (16,),
    dtypes: Iterable[str] = ("bfloat16",),
    layouts: Iterable[str] = ("nhwc",),
) -> Iterator[Case]:
    """The product of everything given, at a network's own channels."""
    widths = {size: c for c, size in NETWORKS[network]}
    for op, order, size, n, dtype, layout in product(ops, orders, sizes, batches, dtypes, layouts):
        up = op in ("modulated_conv2d_up", "regional_conv2d_up", "upsample2d", "downsample2d")
        if not up or size // 2 in widths:
            c_in = widths[size // 2] if op.endswith("conv2d_up") else widths[size]
            yield Case(op, order, network, n, widths[size], size, c_in, dtype, layout)


def _generator(n: int, dtype: str) -> Case:
    """StyleGAN2's forward at 128 px: c and size are those of its last block."""
    c, size = NETWORKS["stylegan2-256"][-2]
    return Case("generator", "fwd", "stylegan2-128", n, c, size, c, dtype, "nhwc")


def _whole(op: str, size: int, n: int, dtype: str, preset: str = "paper") -> Case:
    """StyleGAN2 as a whole at `size` px, as wide as `facegan train --method b --preset` makes it."""
    c = stylegan2_channels(PRESETS[preset][size].channel_base, size)
    return Case(op, "step" if op in STEPS else "fwd", f"stylegan2-{preset}", n, c, size, c, dtype, "nhwc")


def _cpu() -> Iterator[Case]:
    """What the bars and docs/benchmarks.md need, no more: every shape is compiled by Inductor, which takes most of the time."""
    yield _generator(1, "float32")
    fir, a = ("upsample2d", "downsample2d"), "method-a"
    yield from block(a, ("bias_act", *fir, "filter2d", "adain", "adain_affine", *LAYERS), ("fwd+bwd",), (32,), (32,), ("float32",))
    yield from block(a, (*fir, "adain"), ("fwd",), (32,), (32,), ("float32",))
    yield from block(a, ("bias_act", *fir, "adain", "modulated_conv2d", "conv2d"), ("double",), (32,), (32,), ("float32",))
    large = ("bias_act", *fir, "adain", "modulated_conv2d")
    yield from block("stylegan2-256", large, ("fwd+bwd",), (128,), (2,), ("float32",), ("nhwc", "nchw"))
    yield from block("stylegan2-256", ("bias_act", "adain"), ("fwd+bwd",), (128,), (2,), ("bfloat16",))
    yield from block("stylegan2-256", FILTERED, ("fwd", "fwd+bwd"), (64,), (1,), ("float32",), ("nchw",))
    yield from (_whole("stylegan2_forward", size, n, "float32") for size, n in ((64, 4), (256, 1)))
    yield from (_whole(op, 64, 16, "float32", "small") for op in STEPS)
    yield from (_whole("restorer", size, n, "float32", "small") for size, n in ((128, 8), (256, 2), (512, 1)))


def _check() -> Iterator[Case]:
    """Sorted by importance: what does not fit into the time is the end of the list."""
    small, both = "stylegan2-256", ("fwd", "fwd+bwd")
    yield from block(small, STREAMING, ("fwd", "bwd", "fwd+bwd"), (256,))  # 128 MiB a map, where the bandwidth bars hold
    yield _whole("stylegan2_step", 256, 32, "bfloat16")
    yield from block(small, ("modulated_conv2d",), ("fwd+bwd",), (256, 128, 64, 32))
    yield from block(small, ("modulated_conv2d",), ("graph",), (16, 8, 4))
    yield from block("stylegan2-1024", ("modulated_conv2d",), ("fwd+bwd",), (256, 512))
    yield from block(small, ("modulated_conv2d_up", "to_rgb"), ("fwd+bwd",), (256, 32))
    yield from block(small, REGIONAL, ("fwd",), (256,))
    yield from block(small, ("modulated_conv2d_up", "to_rgb"), ("graph",), (16,))
    yield from block(small, ("bias_act", "adain", "upsample2d", "downsample2d"), ("fwd", "bwd"), (128,), (32,))
    yield from block(small, OPS, ("double",), (128,), (8,))
    yield from block(small, ("bias_act", "adain", "downsample2d", "modulated_conv2d"), ("fwd+bwd",), (256,), layouts=("nchw",))
    yield from block(small, ("bias_act", "adain", "downsample2d", "modulated_conv2d"), ("fwd+bwd",), (256,), (8,), ("float32",))
    yield from block("method-a", OPS, ("fwd+bwd",), (32,), (32,), ("float32",))
    yield from block(small, ("modulated_conv2d", "conv2d"), both, (128,))
    yield from block(small, FILTERED, ("fwd", "fwd+bwd", "double"), (128,), (8,), DTYPES, ("nchw",))
    yield from (_generator(n, "bfloat16") for n in (1, 8))
    yield from (_whole(op, 256, 32, "bfloat16") for op in ("stylegan2_forward", *STEPS[1:]))
    yield from (_whole("restorer", size, n, "bfloat16") for size, n in ((128, 32), (256, 16), (512, 8)))
    yield from block("stylegan2-1024", ("bias_act", "adain", "modulated_conv2d"), ("fwd+bwd",), (1024,), (8,))


def _full() -> Iterator[Case]:
    yield from (_generator(n, dtype) for n in (1, 8, 16, 32) for dtype in DTYPES)
    for size, n in ((64, 64), (256, 32), (1024, 4)):
        yield from (_whole(op, size, n, dtype) for op in ("stylegan2_forward", *STEPS) for dtype in DTYPES)
    for network, maps in NETWORKS.items():
        sizes, batches = [size for _, size in maps], (32,) if network == "method-a" else (8, 16, 32)
        yield from block(network, OPS, ORDERS, sizes, batches, DTYPES, LAYOUTS)
        yield from block(network, LAYERS, ("graph",), [size for size in sizes if size <= 16], batches, DTYPES, LAYOUTS)


def _tiny() -> Iterator[Case]:
    yield from block("method-a", ("bias_act", "upsample2d"), ("bwd", "double"), (8, 16), (2,), ("float32",))
    yield from block("method-a", ("modulated_conv2d",), ("bwd",), (8,), (2,), ("float32",))
    yield _whole("stylegan2_step", 16, 4, "float32", "tiny")


SETS = {"cpu": _cpu, "check": _check, "full": _full, "tiny": _tiny}
DEVICE = {"cpu": "cpu", "check": "cuda", "full": "cuda", "tiny": "cpu"}  # of a set


def select(name: str) -> list[Case]:
    """The cases of one of the `SETS`, in its order; shapes that two networks share appear once."""
    return list({str(case): case for case in SETS[name]()}.values())


if __name__ == "__main__":
    for name in SETS:
        print(f"{name:6} {len(select(name)):5} cases")
