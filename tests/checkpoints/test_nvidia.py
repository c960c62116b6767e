"""NVIDIA's pickles: one that is written here in their format converts to identical tensors; hostile ones are refused unrun."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import resource
import struct
import sys
import types
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from facegan.checkpoints.convert import convert
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.unpickling import load
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config

CONFIG = StyleGAN2Config(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12, half_sizes=1, conv_clamp=256.0)
FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0])
SOURCE = "raise SystemExit('the source text of a pickle was run')"


@pytest.fixture
def foreign(monkeypatch):
    """Modules of the names that NVIDIA's pickles refer to, as far as writing one needs them."""
    util, persistence = types.ModuleType("dnnlib.util"), types.ModuleType("torch_utils.persistence")

    class EasyDict(dict):
        __module__, __qualname__ = "dnnlib.util", "EasyDict"

    def reconstruct(meta):
        raise AssertionError("only named, never called")

    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    util.EasyDict, persistence._reconstruct_persistent_obj = EasyDict, reconstruct
    for name, module in {"dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": util,
                         "torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": persistence}.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    return types.SimpleNamespace(EasyDict=EasyDict, reconstruct=reconstruct)


class Persistent:
    """A module as NVIDIA's persistence saves it."""

    def __init__(self, foreign, class_name, state):
        self.foreign, self.class_name, self.state = foreign, class_name, state

    def __reduce__(self):
        meta = self.foreign.EasyDict(type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=self.state)
        return self.foreign.reconstruct, (meta,)


def module(foreign, class_name, tensors, parameters, **state):
    """Nested modules from flat names; names in `parameters` become parameters, the others buffers."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    children = OrderedDict.fromkeys(name.split(".")[0] for name in tensors if "." in name)
    modules = OrderedDict()
    for child in children:
        below = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(child + ".")}
        inner = {name.split(".", 1)[1] for name in parameters if name.startswith(child + ".")}
        modules[child] = module(foreign, "Layer", below, inner)
    return Persistent(foreign, class_name, {
        "training": False, "_non_persistent_buffers_set": set(),
        "_parameters": OrderedDict((n, torch.nn.Parameter(v)) for n, v in own.items() if n in parameters),
        "_buffers": OrderedDict((n, v) for n, v in own.items() if n not in parameters),
        "_modules": modules, "_backward_hooks": OrderedDict(), **state,
    })  # fmt: skip


def theirs(network):
    """Our state dict in NVIDIA's conventions, restated: turned up layers, and a filter beside what resamples."""
    tensors = {}
    for name, value in network.state_dict().items():
        tensors[name] = value.flip(2, 3) if ".conv0.weight" in name and name.startswith("synthesis") else value
    for size in (8, 16) if "synthesis.b4.const" in tensors else ():
        tensors[f"synthesis.b{size}.resample_filter"] = torch.outer(FILTER, FILTER) / 64
    return tensors


@pytest.fixture
def networks():
    torch.manual_seed(0)
    found = Generator(CONFIG), Discriminator(CONFIG)
    for network in found:
        network.load_state_dict({name: torch.randn_like(value) for name, value in network.state_dict().items()})
    return found


@pytest.fixture
def snapshot(foreign, networks):
    """write(protocol=4, **changes): the bytes of a network pickle."""

    def write(protocol=4, change=lambda tensors: tensors, **extra):
        g, d = networks
        kwargs = foreign.EasyDict(
            c_dim=0, img_channels=3, synthesis_kwargs=foreign.EasyDict(num_fp16_res=1, conv_clamp=256),
            lr=np.float32(0.002), steps=np.int64(7), betas=[np.float64(0), 0.99],
        )  # fmt: skip
        generator = module(foreign, "Generator", change(theirs(g)), {n for n, _ in g.named_parameters()}, _init_kwargs=kwargs)
        discriminator = module(foreign, "Discriminator", theirs(d), {n for n, _ in d.named_parameters()})
        content = {"G": None, "D": discriminator, "G_ema": generator, "training_set_kwargs": kwargs, "augment_pipe": None, **extra}
        return pickle.dumps(content, protocol=protocol)

    return write


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_converts_to_identical_tensors(snapshot, networks, tmp_path, protocol):
    (tmp_path / "net.pkl").write_bytes(snapshot(protocol))
    convert(str(tmp_path / "net.pkl"), str(tmp_path / "net"))
    opened = open_networks(tmp_path / "net")
    assert opened.config == CONFIG
    for found, network in ((opened.generator(), networks[0]), (opened.discriminator(), networks[1])):
        for (name, value), (other, expected) in zip(found.state_dict().items(), network.state_dict().items(), strict=True):
            assert name == other and torch.equal(value, expected), name
    z = torch.randn(2, 6)
    exact = Generator(replace(CONFIG, half_sizes=0))  # faces are made in float32, whatever the network was trained in
    exact.load_state_dict(networks[0].state_dict())
    assert torch.equal(opened.generator()(z, noise_mode="const"), exact(z, noise_mode="const"))


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def forged(module_name, name, *args):
    """A pickle that calls module_name.name(*args), whether or not it can be imported here."""
    body = pickle.dumps(args, protocol=3)[2:-1]
    return b"\x80\x03" + f"c{module_name}\n{name}\n".encode() + body + b"R."


def storage_of(data):
    return forged("torch.storage", "_load_from_bytes", data)


HOSTILE = {
    "os.system through reduce": (lambda mark: pickle.dumps(Calls(os.system, f"touch {mark}")), "posix.system|nt.system"),
    "eval": (lambda mark: pickle.dumps(Calls(eval, f"open({str(mark)!r}, 'w')")), "builtins.eval"),
    "exec by the old name": (lambda mark: forged("__builtin__", "exec", f"open({str(mark)!r}, 'w')"), "__builtin__.exec"),
    "getattr": (lambda mark: forged("builtins", "getattr", "x", "y"), "builtins.getattr"),
    "a dotted name": (lambda mark: b"\x80\x04\x8c\x0bcollections\x8c\x13OrderedDict.popitem\x93.", "collections.OrderedDict.popitem"),
    "functools": (lambda mark: forged("functools", "partial", 1), "functools.partial"),
    "copyreg": (lambda mark: forged("copyreg", "_reconstructor", 1, 2, 3), "copyreg._reconstructor"),
    "subprocess by INST": (lambda mark: b"(S'true'\nisubprocess\nPopen\n.", "instruction STRING"),
    "numpy object array": (lambda mark: pickle.dumps(np.array([{}], dtype=object)), r"numpy\.\w+"),
    "numpy object dtype": (lambda mark: forged("numpy", "dtype", "O8", False, True), "dtype 'O8'"),
    "pickle inside a storage": (lambda mark: storage_of(pickle.dumps(Calls(os.system, f"touch {mark}"))), "not a readable network"),
    "pickle inside a zip storage": (lambda mark: storage_of(zipped(Calls(os.system, f"touch {mark}"))), "not a readable network"),
    "attributes on a function": (lambda mark: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "a function"),
    "slots on a function": (lambda mark: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "a function"),
    "persistent id": (lambda mark: b"\x80\x02X\x01\x00\x00\x00aQ.", "instruction BINPERSID"),
    "legacy TensorFlow": (lambda mark: forged("dnnlib.tflib.network", "Network"), "TensorFlow"),
    "truncated": (lambda mark: pickle.dumps({"G_ema": list(range(1000))})[:-50], "not a readable network"),
    "not a pickle": (lambda mark: b"<html>404</html>", "not a readable network"),
    "empty": (lambda mark: b"", "not a readable network"),
    "nested too deeply": (lambda mark: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "holds no StyleGAN2 network"),
    "attributes on a dictionary": (lambda mark: forged("collections", "OrderedDict")[:-1] + b"}X\x01\x00\x00\x00aK\x01sb.", "of a dict"),
    "a dictionary of a dictionary": (lambda mark: forged("collections", "OrderedDict", {"a": 1}), "not a readable network"),
    "a key that overflows the stack when hashed": (lambda mark: b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", "keys are not names"),
    "a dtype that does": (lambda mark: b"\x80\x02cnumpy\ndtype\n)" + b"\x85" * 300_001 + b"R.", "not a readable network"),
    "a set that does": (lambda mark: b"\x80\x04\x8f()" + b"\x85" * 300_000 + b"\x90.", "something else than names"),
    "escapes for the terminal": (lambda mark: b"\x80\x04\x8c\x04a\n\x1b[\x8c\x01b\x93.", r"asks for a\\n\\x1b\[.b"),
    "claims more bytes than it has": (lambda mark: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "not a readable network"),
}  # fmt: skip


def zipped(payload):
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_unrun(name, tmp_path):
    make, words = HOSTILE[name]
    mark = tmp_path / "mark"
    (tmp_path / "net.pkl").write_bytes(make(mark))
    with pytest.raises(FaceganError, match=words) as refusal:
        open_networks(tmp_path / "net.pkl")
    assert "\n" not in str(refusal.value) and not mark.exists()


class Tensor:
    """Pickles as a tensor of four stored numbers that claims any size and stride, perhaps set on it afterwards."""

    def __init__(self, size, stride, *state, stored=None):
        stored = torch.zeros(4).storage() if stored is None else stored
        self.call = torch._utils._rebuild_tensor_v2, (stored, 0, size, stride, False, OrderedDict()), *state

    def __reduce__(self):
        return self.call


class Bytes:
    """Pickles as a storage of these bytes."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("size,stride", [((1 << 40,), (0,)), ((2, 4), (4, 1)), ((-1,), (1,)), ((4,), (-1,)), ((2,), (1, 1)), ((3,), (2,))])
def test_tensors_beyond_their_storage_are_refused(size, stride):
    with pytest.raises(FaceganError, match="not a readable network"):
        load(pickle.dumps(Tensor(size, stride), protocol=4), "it")
    assert load(pickle.dumps(Tensor((2, 2), (2, 1)), protocol=4), "it").shape == (2, 2)


@pytest.mark.parametrize("size,stride", [((1 << 24,), (1,)), ((1 << 40,), (0,))])
def test_no_tensor_is_given_another_storage_size_or_hooks(size, stride):
    """`Tensor.__setstate__`, which BUILD would call, resizes the storage."""
    for state in ((torch.zeros(4).storage(), 0, size, stride), (True, None, OrderedDict(hook=print))):
        with pytest.raises(FaceganError, match="sets attributes of a Tensor|asks for builtins.print"):
            load(pickle.dumps(Tensor((4,), (1,), state), protocol=4), "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_storages_of_every_kind(dtype):
    for expected in (torch.arange(6).to(dtype).view(2, 3).T, torch.zeros(0, 3, dtype=dtype), torch.ones((), dtype=dtype)):
        found = load(pickle.dumps({"it": expected}, protocol=3), "it")["it"]
        assert found.dtype == dtype and torch.equal(found, expected)


def test_storages_that_lack_their_bytes_are_refused():
    """PyTorch's own reader returns whatever was in memory for a storage that is claimed and not stored."""
    buffer = io.BytesIO()
    torch.save(torch.arange(8.0).storage(), buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    claim, start = data.replace(b"K\x08Nt", b"J\x00\x00\x00\x10Nt"), data.rindex(b"\x80\x02")
    without_keys = data[:start] + pickle.dumps([], protocol=2)
    compressed, expanded = io.BytesIO(zipped(torch.zeros(1))), io.BytesIO()
    torch.save(torch.zeros(1).expand(1 << 35), expanded, _use_new_zipfile_serialization=False)
    assert claim != data
    for bad in (claim, without_keys, data[:-4], compressed.getvalue(), expanded.getvalue()):
        with pytest.raises(FaceganError, match="not a readable network"):
            load(pickle.dumps({"it": Bytes(bad)}, protocol=4), "it")
    tensor = Tensor((8,), (1,), stored=Bytes(data))
    assert torch.equal(load(pickle.dumps(tensor, protocol=4), "it"), torch.arange(8.0))


def test_two_bytes_do_not_fill_gigabytes():
    """A memo's index is no size: CPython's C unpickler made room for 2^28 entries here."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load(b"\x80\x02Nr" + struct.pack("<I", 1 << 28) + b".", "it") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    with pytest.raises(FaceganError, match="BYTEARRAY8"):
        load(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "it")


def test_one_tensor_under_thousands_of_names_is_refused(foreign, tmp_path):
    shared = torch.zeros(1000)
    state = {"_parameters": OrderedDict((f"p{i}", shared) for i in range(1000))}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"G_ema": Persistent(foreign, "Generator", state)}, protocol=4))
    with pytest.raises(FaceganError, match="more numbers than that"):
        open_networks(tmp_path / "net.pkl")


def test_nonsense_among_the_arguments_and_names(snapshot, tmp_path):
    def attempt(**changes):
        (tmp_path / "net.pkl").write_bytes(snapshot(**changes))
        return open_networks(tmp_path / "net.pkl")

    for name in ("synthesis.bx.conv1.weight", "synthesis.b1152921504606846976.conv1.weight"):
        with pytest.raises(FaceganError, match="lacks parts"):
            attempt(change=lambda t, name=name: {**t, name: torch.zeros(1, 1, 1, 1)})


def test_a_cycle_of_modules_is_refused(foreign, tmp_path):
    state = {"_parameters": OrderedDict(weight=torch.zeros(1)), "_modules": OrderedDict()}
    state["_modules"]["again"] = Persistent(foreign, "Layer", state)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"G_ema": Persistent(foreign, "Generator", state)}, protocol=4))
    with pytest.raises(FaceganError, match="holds the same module twice"):
        open_networks(tmp_path / "net.pkl")


def test_networks_that_are_not_stylegan2(foreign, snapshot, tmp_path):
    def attempt(data):
        (tmp_path / "net.pkl").write_bytes(data)
        open_networks(tmp_path / "net.pkl")

    third = {"_modules": OrderedDict(synthesis=module(foreign, "SynthesisNetwork", {"L0_36_512.weight": torch.zeros(1)}, set()))}
    with pytest.raises(FaceganError, match="StyleGAN3-T and -R"):
        attempt(pickle.dumps({"G_ema": Persistent(foreign, "Generator", third)}, protocol=4))
    with pytest.raises(FaceganError, match="holds no StyleGAN2 network"):
        attempt(pickle.dumps({"weights": [1, 2]}))
    with pytest.raises(FaceganError, match="other than"):
        attempt(snapshot(change=lambda t: {**t, "synthesis.b8.resample_filter": torch.ones(4, 4)}))
    with pytest.raises(FaceganError, match=r"G_ema.synthesis.b8.conv1.bias is \[3\] in the file, and \[12\]"):
        attempt(snapshot(change=lambda t: {**t, "synthesis.b8.conv1.bias": torch.zeros(3)}))
    with pytest.raises(FaceganError, match="absent in the file"):
        attempt(snapshot(change=lambda t: {n: v for n, v in t.items() if n != "synthesis.b16.torgb.weight"}))
    with pytest.raises(FaceganError, match="G_ema.extra"):
        attempt(snapshot(change=lambda t: {**t, "extra": torch.zeros(1)}))


def test_the_format_written_here_names_what_nvidias_does(snapshot):
    """The pickles above are real ones: they name the functions that the reader lists, and carry source text."""
    data = snapshot()
    strings = {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert {"torch_utils.persistence", "_reconstruct_persistent_obj", "dnnlib.util", "EasyDict", SOURCE} <= strings
