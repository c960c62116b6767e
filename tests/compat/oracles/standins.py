"""What foreign code needs before it runs here at all, so that its unpatched form can be compared with.

`surroundings` holds what is no operator and stands in for patched runs as well: files that a project's setup.py writes, and a
torchvision whose compiled part does not fit this PyTorch. `plain` holds what breaks in the operators and in what `facegan.compat`
mends; where an operator has no form for this device its formula stands in (Karras et al. 2019, 2020), in PyTorch's own functions.
Nothing of a project is read: modules, names and signatures only.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor, nn
from torch.utils import cpp_extension

from facegan.compat.nvidia.upfirdn2d import setup_filter

SQRT_2 = 2**0.5


def module(name: str, **content: Any) -> ModuleType:
    """A module of that name and content, entered in `sys.modules`."""
    made = ModuleType(name)
    vars(made).update(content)
    sys.modules[name] = made
    return made


def surroundings() -> None:
    """BasicSR's and GFPGAN's versions, which their setup.py would have written, and torchvision."""
    for project in ("basicsr", "gfpgan"):
        module(f"{project}.version", __version__="0", __gitsha__="0")
    with contextlib.suppress(ImportError):
        _torchvision()


def _torchvision() -> None:
    """The wheel of an index is compiled for CUDA; beside a CPU's PyTorch its import fails as it looks for these two operators."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        module("oracle_libraries", torchvision=library)  # it unregisters what it defined when it is collected


def no_gpu() -> None:
    """Scripts that ask for `torch.device("cuda")` get the CPU."""
    real = torch.device

    class Meta(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

    class Device(metaclass=Meta):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real("cpu") if args and str(args[0]).startswith("cuda") else real(*args, **kwargs)

    torch.device = Device  # type: ignore[misc,assignment]


def plain(project: str, device: str) -> None:
    """What the unpatched run needs, before anything of the project is imported."""
    if project in ("stylegan3", "stylegan2-ada-pytorch", "stylegan-xl", "eg3d"):
        if importlib.util.find_spec("pkg_resources") is None:  # not in setuptools from 82 on: stylegan3 asks it for torch's version
            module("pkg_resources", parse_version=Version)
        _tolerant_sampler()
    elif project in ("stylegan2-pytorch", "pixel2style2pixel"):
        cpp_extension.load = lambda *args, **kwargs: SimpleNamespace()  # at import; raises without CUDA_HOME, of no use on a CPU
        if project == "pixel2style2pixel":  # both without a form for a CPU
            _formulas("models.stylegan2.op")
        elif device != "cpu":
            _formulas("op")
    elif project in ("BasicSR", "GFPGAN"):  # fused_leaky_relu has no form for a CPU
        module("basicsr.ops.fused_act", FusedLeakyReLU=FusedLeakyReLU, fused_leaky_relu=fused_leaky_relu)
        if device != "cpu":
            module("basicsr.ops.upfirdn2d", upfirdn2d=upfirdn2d)


def _formulas(package: str) -> None:
    """In place of the operators of that package, before a model takes their names from it."""
    importlib.import_module(package)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        for formula in (FusedLeakyReLU, fused_leaky_relu, upfirdn2d):
            if callable(getattr(sys.modules[name], formula.__name__, None)):
                setattr(sys.modules[name], formula.__name__, formula)


def _tolerant_sampler() -> None:
    """torch's Sampler no longer takes the data set that NVIDIA's InfiniteSampler hands it."""
    torch.utils.data.Sampler.__init__ = lambda self, data_source=None: None  # type: ignore[method-assign]


def reference(names: Sequence[str] = ("bias_act", "upfirdn2d", "filtered_lrelu")) -> None:
    """NVIDIA's operators by their own `impl="ref"`, which is what their default falls back to on a CPU."""
    for name in names:
        with contextlib.suppress(ImportError):
            operators = importlib.import_module(f"torch_utils.ops.{name}")
            for function in (name, "upsample2d", "downsample2d", "filter2d"):
                if hasattr(operators, function):
                    setattr(operators, function, _by_reference(getattr(operators, function)))


def _by_reference(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**kwargs, "impl": "ref"})

    return call


@contextlib.contextmanager
def float64(checkout: Path) -> Iterator[None]:
    """Code of the checkout that names float32, or no type, gets float64: NVIDIA's networks cast to float32 in every layer.

    Of its modules only the name `torch` is replaced, by a stand-in that answers for everything else as torch does.
    """

    # One maker of filters for both sides: theirs would follow the stand-in, ours are of float32, and wavelets differ by its rounding.
    filters = importlib.import_module("torch_utils.ops.upfirdn2d")
    filters.setup_filter = lambda *args, **kwargs: setup_filter(*args, **kwargs).double()  # type: ignore[attr-defined]

    class Torch(ModuleType):
        float32 = float = torch.float64

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    proxy, changed = Torch("torch"), []
    for found in list(sys.modules.values()):
        file = getattr(found, "__file__", None)
        if file and Path(file).is_relative_to(checkout) and getattr(found, "torch", None) is torch:
            found.torch = proxy  # type: ignore[attr-defined]
            changed.append(found)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        for found in changed:
            found.torch = torch  # type: ignore[attr-defined]


def fused_leaky_relu(input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = SQRT_2, device: str = "cpu") -> Tensor:
    """The activation of StyleGAN with its gain (Karras et al. 2019, C)."""
    return F.leaky_relu(input + bias.reshape(1, -1, *[1] * (input.ndim - 2)), negative_slope) * scale


class FusedLeakyReLU(nn.Module):
    """Adds a learned bias per channel, then as the function."""

    def __init__(self, channel: int, negative_slope: float = 0.2, scale: float = SQRT_2) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channel))
        self.negative_slope, self.scale = negative_slope, scale

    def forward(self, input: Tensor) -> Tensor:
        """Of [N, C, ...]."""
        return fused_leaky_relu(input, self.bias, self.negative_slope, self.scale)


def upfirdn2d(input: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: Sequence[int] = (0, 0)) -> Tensor:
    """Zeros between the pixels, padding, convolution with the taps, every `down`-th pixel (Karras et al. 2020, B)."""
    n, c, height, width = input.shape
    x = F.pad(input.reshape(n * c, 1, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n * c, 1, height * up, width * up)
    left, right, top, bottom = (*pad, *pad)[:4]
    x = F.conv2d(F.pad(x, (left, right, top, bottom)), kernel.to(x.dtype).flip(0, 1)[None, None])[..., ::down, ::down]
    return x.reshape(n, c, *x.shape[2:])
