"""A plugin that is loaded from a file is found by its name, without touching the code that looks for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch.utils import cpp_extension

from benchmarks.peer import Peer, entered

# Stands for a clone's module that has its plugin built and then imports it by name.
LOADS_A_PLUGIN = """
import importlib
import torch.utils.cpp_extension

torch.utils.cpp_extension.load(name="planted_plugin", sources=[])
plugin = importlib.import_module("planted_plugin")
"""


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        del sys.modules[name]


def loaded(module: Any) -> Callable[..., Any]:
    """`cpp_extension.load` as it is with pybind11 3: what it returns is not entered."""
    return lambda name, sources=(), **options: module


def test_a_loaded_module_can_be_imported_by_its_name() -> None:
    module = ModuleType("planted_plugin")
    assert entered(loaded(module))(name="planted_plugin", sources=["a.cpp"], verbose=False) is module
    assert importlib.import_module("planted_plugin") is module
    assert entered(loaded(other := ModuleType("another")))("another_plugin") is other
    assert importlib.import_module("another_plugin") is other


def test_a_library_that_is_no_module_is_not_entered() -> None:
    assert entered(loaded("/tmp/library.so"))("planted_plugin", is_python_module=False) == "/tmp/library.so"
    assert "planted_plugin" not in sys.modules


def test_a_clone_finds_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ops, training = tmp_path / "torch_utils" / "ops", tmp_path / "training"
    ops.mkdir(parents=True)
    training.mkdir()
    (ops / "bias_act.py").write_text(LOADS_A_PLUGIN + "bias_act = plugin.bias_act\n")
    (ops / "upfirdn2d.py").write_text("upfirdn2d = None\n")
    (training / "networks_stylegan2.py").write_text("modulated_conv2d = None\n")
    module = ModuleType("planted_plugin")
    module.bias_act = lambda x, b, act: x + b  # type: ignore[attr-defined]
    monkeypatch.setattr(cpp_extension, "load", loaded(module))
    assert Peer(str(tmp_path)).bias_act(1, 2) == 3  # type: ignore[arg-type]
    wrapper = cpp_extension.load
    Peer(str(tmp_path))
    assert cpp_extension.load is wrapper, "a second peer wraps the wrapper"


def test_a_folder_that_is_no_clone(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match="expected a clone of NVlabs/stylegan3"):
        Peer(str(tmp_path))
