"""What is answered for, what is left alone, and that an operator file of a project is never run."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

import pytest
import torch
from stylegan_formulas import modulated_conv2d

from facegan import compat
from facegan.errors import FaceganError

OPERATORS = [
    *(f"torch_utils.ops.{n}" for n in "bias_act upfirdn2d conv2d_resample conv2d_gradfix grid_sample_gradfix fma filtered_lrelu".split()),
    *(f"op.{n}" for n in ("fused_act", "upfirdn2d", "conv2d_gradfix")),
    *(f"basicsr.ops.{n}.{n}" for n in ("fused_act", "upfirdn2d")),
]


def test_operator_modules_are_ours_under_their_names(importing) -> None:
    compat.install()
    for name in OPERATORS:
        module = importlib.import_module(name)
        assert module.__name__ == name
        assert "compat" in module.__file__
        assert compat.served()[name].startswith("facegan.compat.")
    op = importlib.import_module("op")
    assert op.FusedLeakyReLU.__module__ == "op.fused_act"  # as pickles name it
    with pytest.raises(RuntimeError, match="operator file of the project"):
        importlib.import_module("torch_utils.ops.custom_ops")  # no operator: theirs


def test_each_project_has_modules_of_its_own(importing) -> None:
    for name in ("theirs/a", "theirs/b"):
        folder = importing / name / "op"
        folder.mkdir(parents=True)
        (folder / "upfirdn2d.py").write_text("raise RuntimeError\n")
        (folder / "upfirdn2d_kernel.cu").write_text("")
    compat.install()
    first, second = (importlib.import_module(f"theirs.{name}.op.upfirdn2d") for name in "ab")
    assert first is not second
    assert first.upfirdn2d is not second.upfirdn2d


@pytest.mark.parametrize("name", ["elsewhere.op.upfirdn2d", "elsewhere.torch_utils.ops.bias_act", "elsewhere.op.fused_act"])
def test_modules_without_the_projects_sources_are_left_alone(importing, name: str) -> None:
    file = importing / (name.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine = True\n")
    compat.install()
    assert importlib.import_module(name).mine
    assert name not in compat.served()


def test_a_module_that_is_not_there_is_not_made_up(importing) -> None:
    (importing / "op" / "conv2d_gradfix.py").unlink()
    compat.install()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("op.conv2d_gradfix")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("elsewhere.torch_utils.ops.bias_act")


def test_what_was_imported_before_is_refused_by_name(importing) -> None:
    (importing / "op" / "upfirdn2d.py").write_text("compiled = True\n")
    (importing / "op" / "__init__.py").write_text("")
    importlib.import_module("op.upfirdn2d")
    with pytest.raises(FaceganError, match=r"op\.upfirdn2d has been imported already, from .*upfirdn2d\.py"):
        compat.install()
    assert compat.served() == {}
    importlib.import_module("training.networks")
    del sys.modules["op.upfirdn2d"]
    with pytest.raises(FaceganError, match=r"training\.networks has been imported already"):
        compat.install(layers=True)
    compat.install()


def test_uninstalled_the_projects_own_are_imported_again(importing, monkeypatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    compat.install(layers=True)
    importlib.import_module("torch_utils.ops.fma")
    networks = importlib.import_module("training.networks")
    assert os.environ["FACEGAN_COMPAT"] == "operators,layers,mends"
    compat.uninstall()
    assert compat.served() == {}
    with pytest.raises(RuntimeError, match="operator file of the project"):
        importlib.import_module("torch_utils.ops.fma")
    with pytest.raises(RuntimeError, match="theirs"):
        networks.modulated_conv2d(None, None, None)
    assert "FACEGAN_COMPAT" not in os.environ
    assert "PYTHONPATH" not in os.environ
    compat.uninstall()  # a second time does nothing


def test_installed_twice_the_later_options_count(importing) -> None:
    from torch.utils.data import Sampler

    compat.install()
    fma = importlib.import_module("torch_utils.ops.fma")
    compat.install(layers=True, mends=False)
    assert importlib.import_module("torch_utils.ops.fma") is fma
    assert list(compat.served()) == ["torch_utils.ops.fma"]
    assert "__init__" not in vars(Sampler)
    networks = importlib.import_module("training.networks")
    compat.install(layers=False)
    with pytest.raises(RuntimeError, match="theirs"):
        networks.modulated_conv2d(None, None, None)
    with pytest.raises(FaceganError, match=r"training\.networks has been imported already"):
        compat.install(layers=True)
    assert "training.networks" not in compat.served()
    del sys.modules["training.networks"]
    compat.install(layers=True)
    networks = importlib.import_module("training.networks")
    x, w, s = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3), torch.randn(2, 3)
    f = torch.tensor([[1.0, 3, 3, 1]]).T @ torch.tensor([[1.0, 3, 3, 1]]) / 64
    noise = torch.randn(2, 1, 8, 8)
    y = networks.modulated_conv2d(x, w, s, noise=noise, up=2, padding=1, resample_filter=f, flip_weight=False, fused_modconv=False)
    assert torch.allclose(y, modulated_conv2d(x, w, s, noise, 2, 1, 1, f, True, False), atol=1e-4)
    assert sum(isinstance(finder, type(sys.meta_path[0])) for finder in sys.meta_path) == 1


STRANGE = {
    "decorated": "import time\ndef d(f):\n    clock = time.time\n    return lambda *a: (clock(), f(*a))[1]\n@d\n",
    "empty": "def make():\n    if 0: later = 1\n    def modulated_conv2d(*a): return later and a\n    return modulated_conv2d\n"
    "modulated_conv2d = make()\n",
    "builtin": "import time\nmodulated_conv2d = time.time\n",
    "class": "class ModulatedConv2d: forward = None\n",
    "scripted": "import torch\n@torch.jit.script\n",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_functions_that_tell_nothing_of_themselves_are_left_alone(importing, kind: str) -> None:
    source = STRANGE[kind] + ("" if kind in ("empty", "builtin", "class") else "def modulated_conv2d(x):\n    return x\n")
    (importing / "training" / "networks_strange.py").write_text(source)
    compat.install(layers=True)
    importlib.import_module("training.networks_strange")
    assert "training.networks_strange" not in compat.served()


def test_a_reload_of_this_package_keeps_what_was_installed(importing) -> None:
    compat.install()
    importlib.import_module("basicsr.ops.upfirdn2d")
    importlib.reload(compat)
    compat.install()
    assert "basicsr.ops.upfirdn2d.upfirdn2d" in compat.served()
    compat.uninstall()
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "Finder"]


def test_looking_is_not_serving(importing) -> None:
    compat.install(mends=False)
    assert importlib.util.find_spec("torch_utils.ops.fma") is not None
    assert compat.served() == {}


def test_the_path_of_child_processes_is_given_back_as_it_was(importing, monkeypatch) -> None:
    for given in (":/x", "/x:", "/with space"):  # an empty entry is the current folder
        monkeypatch.setenv("PYTHONPATH", given)
        compat.install()
        assert os.environ["PYTHONPATH"].endswith(f"children:{given}")
        compat.uninstall()
        assert os.environ["PYTHONPATH"] == given


def test_other_functions_of_that_name_are_left_alone(importing) -> None:
    (importing / "training" / "networks_other.py").write_text("def modulated_conv2d(x, w, s, gain=1):\n    return 'theirs'\n")
    compat.install(layers=True)
    assert importlib.import_module("training.networks_other").modulated_conv2d(1, 2, 3) == "theirs"


def test_networks_that_carry_their_source_are_served(importing) -> None:
    networks = (importing / "training" / "networks.py").read_text()
    source = f"""{networks}
def made():
    import torch
    y = modulated_conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1), torch.full((1, 1), 3.0))
    from torch_utils.ops import fma
    return y, fma
"""
    compat.install(layers=True)
    persistence = importlib.import_module("torch_utils.persistence")
    y, fma = persistence.reconstruct(source, "made")
    assert torch.allclose(y, torch.ones(1, 1, 2, 2))
    assert "compat" in fma.__file__
    assert list(persistence._made) == [source]  # what a snapshot of the network would carry
    compat.uninstall()
    with pytest.raises(RuntimeError, match="theirs"):
        persistence.reconstruct(source + "# again\n", "made")


def test_samplers_take_their_data_set_again(importing) -> None:
    from torch.utils.data import RandomSampler, Sampler

    class InfiniteSampler(Sampler):
        def __init__(self, dataset) -> None:
            super().__init__(dataset)

    compat.install(mends=False)
    with pytest.raises(TypeError):
        InfiniteSampler([1])
    compat.install()
    InfiniteSampler([1])
    assert sorted(RandomSampler([1, 2])) == [0, 1]
    assert "torch.utils.data.sampler.Sampler.__init__" in compat.served()
    compat.uninstall()
    with pytest.raises(TypeError):
        InfiniteSampler([1])


def test_a_module_that_torchvision_renamed_is_found_by_its_old_name(importing, monkeypatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    transforms = importing / "torchvision" / "transforms"
    transforms.mkdir(parents=True)
    (importing / "torchvision" / "__init__.py").write_text("")
    (transforms / "__init__.py").write_text("")
    (transforms / "_functional_tensor.py").write_text("def rgb_to_grayscale(x):\n    return 'grey'\n")
    name = "torchvision.transforms.functional_tensor"
    compat.install(mends=False)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
    compat.install()
    from torchvision.transforms.functional_tensor import rgb_to_grayscale

    assert rgb_to_grayscale(1) == "grey"
    assert name in compat.served()
    with pytest.raises(ImportError):
        from torchvision.transforms.functional_tensor import nothing  # noqa: F401
    compat.uninstall()
    assert name not in sys.modules
    for loaded in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[loaded]
