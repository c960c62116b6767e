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

from facegan.compat import layers, mends
from facegan.errors import FaceganError

_HERE = Path(__file__).parent
_NVIDIA = "bias_act|upfirdn2d|conv2d_resample|conv2d_gradfix|grid_sample_gradfix|fma|filtered_lrelu"
# (names of modules, our folder, whether the name alone shows whose it is); `file` is our file
_PATTERNS = (
    (re.compile(rf"(?:.+\.)?torch_utils\.ops\.(?P<file>{_NVIDIA})"), "nvidia", False),
    (re.compile(r"(?:.+\.)?op\.(?P<file>fused_act|upfirdn2d|conv2d_gradfix)"), "rosinality", False),
    (re.compile(r"(?:.+\.)?basicsr\.ops\.(?P<file>fused_act|upfirdn2d)\.(?P=file)"), "rosinality", True),
)
# What these projects compile at first use. One of these files beside a module shows whose it is; nobody reads them.
_SOURCES = tuple(
    f"{name}.{suffix}"
    for name in ("upfirdn2d", "upfirdn2d_kernel", "bias_act", "fused_bias_act", "fused_bias_act_kernel")
    for suffix in ("cpp", "cu")
)


class Finder(MetaPathFinder):
    """Answers for the modules of `_PATTERNS`; `served` says for which."""

    def __init__(self, with_layers: bool, with_mends: bool) -> None:
        """Remember the options of `install`."""
        self.with_layers, self.with_mends = with_layers, with_mends
        self.served: dict[str, str] = {}
        self._looking: set[str] = set()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return our file for an operator module, the project's own with an afterthought, or None."""
        own = _own_file(fullname, path)
        if own is not None:
            self.served[fullname] = f"facegan.compat.{own.parent.name}.{own.stem}"
            return importlib.util.spec_from_file_location(fullname, own)
        if self.with_mends and fullname == mends.FUNCTIONAL_TENSOR:
            return self._missing(fullname, path)
        after = self._afterthought(fullname)
        return None if after is None else self._followed(fullname, after)

    def _afterthought(self, fullname: str) -> Callable[[ModuleType], None] | None:
        """Return what is done to a module once it has been run."""
        if self.with_mends and fullname == mends.SAMPLER:
            return lambda module: mends.mend_sampler(module, self.served)
        if self.with_layers and layers.NETWORKS.fullmatch(fullname):
            return lambda module: layers.serve(vars(module), fullname, self.served)
        if self.with_layers and layers.PERSISTENCE.fullmatch(fullname):
            return lambda module: layers.serve_pickled(module, self.served)
        return None

    def _followed(self, fullname: str, after: Callable[[ModuleType], None]) -> ModuleSpec | None:
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

    def _missing(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Return our file for a module that the installed package no longer has."""
        if PathFinder.find_spec(fullname, path) is not None:
            return None
        own = _HERE / "functional_tensor.py"
        self.served[fullname] = f"facegan.compat.{own.stem}"
        return importlib.util.spec_from_file_location(fullname, own)

    def refuse_what_is_loaded(self) -> None:
        """Raise FaceganError where a module was imported that would have been answered for."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if not file:
                continue
            operators = _own_file(name, [os.path.dirname(file)]) is not None
            if operators or (self.with_layers and layers.NETWORKS.fullmatch(name) and layers.is_served(vars(module))):
                raise FaceganError(
                    f"facegan.compat: {name} has been imported already, from {file}; expected install() before the project's"
                    " imports, or `python -m facegan.compat SCRIPT`."
                )

    def forget(self) -> None:
        """Take the modules that were answered for out of `sys.modules`, and what was put into others out of them."""
        for name in self.served:
            module = sys.modules.get(name)
            if module is None:
                continue
            if layers.withdraw(vars(module)):
                continue
            if _HERE in Path(getattr(module, "__file__", None) or "/").parents:
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

    def __init__(self, loader: Loader, after: Callable[[ModuleType], None]) -> None:
        self.loader, self.after = loader, after

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)  # get_source, get_data, is_package ...

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.after(module)
