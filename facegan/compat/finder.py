"""The finder in front of Python's own: it answers for operator modules, and looks at a few others once they have been run."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from facegan.compat import layers, mends, modulated
from facegan.errors import FaceganError

_HERE = Path(__file__).parent
_NVIDIA = "bias_act|upfirdn2d|conv2d_resample|conv2d_gradfix|grid_sample_gradfix|fma|filtered_lrelu"
# (names of modules, our folder, whether the name alone shows whose it is); `file` is our file
_PATTERNS = (
    (re.compile(rf"(?:.+\.)?torch_utils\.ops\.(?P<file>{_NVIDIA})"), "nvidia", False),
    (re.compile(r"(?:.+\.)?op\.(?P<file>fused_act|upfirdn2d|conv2d_gradfix)"), "rosinality", False),
    (re.compile(r"(?:.+\.)?basicsr\.ops\.(?P<file>fused_act|upfirdn2d)\.(?P=file)"), "rosinality", True),
)
OPERATORS = tuple(f"facegan.compat.{folder}." for folder in ("nvidia", "rosinality"))  # how what serves an operator module begins
LAYERS = tuple(f"facegan.compat.{file}:" for file in ("layers", "modulated"))  # and a modulated convolution
# What these projects compile at first use. One of these files beside a module shows whose it is; nobody reads them.
_SOURCES = tuple(
    f"{name}.{suffix}"
    for name in ("upfirdn2d", "upfirdn2d_kernel", "bias_act", "fused_bias_act", "fused_bias_act_kernel")
    for suffix in ("cpp", "cu")
)
_PARTS = (layers, modulated)


class Finder(MetaPathFinder):
    """Answers for the modules of `_PATTERNS`; `served` says for which."""

    def __init__(self) -> None:
        """Answer for operators alone, until `set_options`."""
        self.with_layers = self.with_mends = False
        self.served: dict[str, str] = {}
        self._looking: set[str] = set()

    def set_options(self, with_layers: bool, with_mends: bool) -> None:
        """Take the options of `install`, for what has been imported already as well.

        Raises:
            FaceganError: a module was imported that would have been answered for.
        """
        self._refuse_what_is_loaded(with_layers)
        if self.with_layers and not with_layers:
            self._withdraw_layers()
        if self.with_mends and not with_mends:
            mends.undo(self.served)
        self.with_layers, self.with_mends = with_layers, with_mends
        if with_mends:
            mends.mend_loaded(self.served)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return our file for an operator module, the project's own with an afterthought, or None."""
        own = _own_file(fullname, path)
        if own is not None:
            return self._ours(fullname, own, f"facegan.compat.{own.parent.name}.{own.stem}")
        if self.with_mends and fullname == mends.FUNCTIONAL_TENSOR and PathFinder.find_spec(fullname, path) is None:
            return self._ours(fullname, _HERE / "functional_tensor.py", "facegan.compat.functional_tensor")
        after = self._afterthought(fullname)
        return None if after is None else self._followed(fullname, after)

    def _ours(self, fullname: str, file: Path, name: str) -> ModuleSpec:
        spec = importlib.util.spec_from_file_location(fullname, file)
        assert spec is not None and spec.loader is not None
        spec.loader = _Followed(spec.loader, lambda _: self.served.update({fullname: name}))
        return spec

    def _afterthought(self, fullname: str) -> Callable[[ModuleType], object] | None:
        """Return what is done to a module once it has been run."""
        if self.with_mends and fullname == mends.SAMPLER:
            return lambda module: mends.mend_sampler(module, self.served)
        if self.with_layers and layers.NETWORKS.fullmatch(fullname):
            return lambda module: [part.serve(vars(module), fullname, self.served) for part in _PARTS]
        if self.with_layers and layers.PERSISTENCE.fullmatch(fullname):
            return lambda module: layers.serve_pickled(module, self.served)
        return None

    def _followed(self, fullname: str, after: Callable[[ModuleType], object]) -> ModuleSpec | None:
        if fullname in self._looking:  # asked by ourselves
            return None
        self._looking.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, after)
        return spec

    def _refuse_what_is_loaded(self, with_layers: bool) -> None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if not file or _HERE in Path(file).parents:
                continue
            operators = _own_file(name, [os.path.dirname(file)]) is not None
            networks = with_layers and layers.NETWORKS.fullmatch(name) is not None
            if operators or (networks and any(part.is_served(vars(module)) for part in _PARTS)):
                raise FaceganError(
                    f"facegan.compat: {name} has been imported already, from {file}; expected install() before the project's"
                    " imports, or `python -m facegan.compat SCRIPT`."
                )

    def _withdraw_layers(self) -> None:
        for name in list(self.served):
            module = sys.modules.get(name)
            if module is not None and any([part.withdraw(vars(module)) for part in _PARTS]):
                del self.served[name]

    def forget(self) -> None:
        """Take our modules out of `sys.modules`, and what was put into others out of them."""
        self._withdraw_layers()
        mends.undo(self.served)
        for name in self.served:
            module = sys.modules.get(name)
            if module is not None and _HERE in Path(getattr(module, "__file__", None) or "/").parents:
                del sys.modules[name]
                parent, _, last = name.rpartition(".")
                if getattr(sys.modules.get(parent), last, None) is module:
                    delattr(sys.modules[parent], last)


def _own_file(fullname: str, path: Sequence[str] | None) -> Path | None:
    """Return our file that answers for a module, if it is one of theirs."""
    for pattern, folder, known_by_name in _PATTERNS:
        match = pattern.fullmatch(fullname)
        if match is None:
            continue
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        beside = os.path.dirname(spec.origin)
        if known_by_name or any(os.path.exists(os.path.join(beside, source)) for source in _SOURCES):
            return _HERE / folder / f"{match['file']}.py"
    return None


class _Followed(Loader):
    """A loader, and what is done to its module afterwards."""

    def __init__(self, loader: Loader, after: Callable[[ModuleType], object]) -> None:
        self.loader, self.after = loader, after

    def __getattr__(self, name: str) -> object:
        if name in ("loader", "after") or name.startswith("__"):  # a copy asks before it has them
            raise AttributeError(name)
        return getattr(self.loader, name)  # get_source, get_data, is_package ...

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.after(module)
