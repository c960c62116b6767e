"""NVIDIA's pickles: one that is written here in their format converts to identical tensors; hostile ones are refused unrun."""

from __future__ import annotations

import collections
import io
import logging
import math
import os
import pickle
import pickletools
import re
import resource
import struct
import sys
import types
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from stylegan2_equations import generated, judged, mapped

from facegan.checkpoints.convert import convert
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.storages import load
from facegan.cli import main
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


def module(foreign, class_name, tensors, parameters, record=lambda name: {}, name="", **state):
    """Nested modules from flat names; names in `parameters` become parameters, the others buffers. `record(name)`: a layer's attributes."""
    own = {part: value for part, value in tensors.items() if "." not in part}
    children = OrderedDict.fromkeys(part.split(".")[0] for part in tensors if "." in part)
    modules = OrderedDict()
    for child in children:
        below = {part.split(".", 1)[1]: value for part, value in tensors.items() if part.startswith(child + ".")}
        inner = {part.split(".", 1)[1] for part in parameters if part.startswith(child + ".")}
        modules[child] = module(foreign, "Layer", below, inner, record, f"{name}.{child}" if name else child)
    if name == "b4" and record("b4.mbstd"):
        modules["mbstd"] = Persistent(foreign, "MinibatchStdLayer", record("b4.mbstd"))
    return Persistent(foreign, class_name, {
        "training": False, "_non_persistent_buffers_set": set(),
        "_parameters": OrderedDict((n, torch.nn.Parameter(v)) for n, v in own.items() if n in parameters),
        "_buffers": OrderedDict((n, v) for n, v in own.items() if n not in parameters),
        "_modules": modules, "_backward_hooks": OrderedDict(), **record(name), **state,
    })  # fmt: skip


def recorded(network, **changes):
    """name -> what NVIDIA's layer or block of that name keeps of itself; `changes`: by name, what differs."""
    config, tensors = network.config, network.state_dict()
    judges = isinstance(network, Discriminator)
    lr = config.d_mapping_lr or config.mapping_lr if judges else config.mapping_lr

    def fan_in(name):
        return tensors[f"{name}.weight"][0].numel()

    def record(name):
        block, _, layer = name.rpartition(".")
        size = int(name.split(".")[-1][1:]) if layer.startswith("b") and layer[1:].isdigit() else 0
        kept = {}
        if size:
            kept = {"architecture": config.d_architecture if judges else config.architecture, "resolution": size}
            kept |= {} if judges and size == 4 else {"use_fp16": size > config.resolution >> config.half_sizes}
        elif layer.startswith("fc") and block == "mapping":
            kept = {"activation": config.mapping_activation, "weight_gain": np.float64(lr / math.sqrt(fan_in(name))), "bias_gain": lr}
        elif layer in ("affine", "embed", "out", "fc"):
            activation = config.d_activation if layer == "fc" else "linear"
            kept = {"activation": activation, "weight_gain": np.float64(1 / math.sqrt(fan_in(name))), "bias_gain": 1}
        elif layer == "torgb":
            kept = {"conv_clamp": config.conv_clamp, "weight_gain": np.float64(1 / math.sqrt(fan_in(name)))}
        elif layer in ("conv0", "conv1", "conv", "fromrgb", "skip"):
            activation = "linear" if layer == "skip" else config.d_activation if judges else config.activation
            free = layer == "skip" and not (judges and config.d_skip_clamp) or (name == "b4.fromrgb" and config.d_architecture == "skip")
            kept = {"activation": activation, "act_gain": np.sqrt(2) if activation in ("relu", "lrelu") else 1,
                    "conv_clamp": None if free else config.conv_clamp, "down": 2 if judges and layer in ("conv1", "skip") else 1,
                    "up": 2 if not judges and layer in ("conv0", "skip") else 1}  # fmt: skip
            if judges or layer == "skip":
                kept["weight_gain"] = 1 / np.sqrt(fan_in(name))
        elif layer == "mbstd" and config.deviation_maps:
            kept = {"group_size": config.group, "num_channels": config.deviation_maps}
        return {**kept, **changes.get(name, {})}

    return record


def theirs(network):
    """Our state dict in NVIDIA's conventions, restated: turned up layers, and a filter beside what resamples."""
    tensors = {}
    for name, value in network.state_dict().items():
        tensors[name] = value.flip(2, 3) if ".conv0.weight" in name and name.startswith("synthesis") else value
    for size in network.config.sizes[1:] if "synthesis.b4.const" in tensors else ():
        tensors[f"synthesis.b{size}.resample_filter"] = torch.outer(FILTER, FILTER) / 64
    return tensors


def drawn(config):
    """A generator and a discriminator, every tensor random."""
    torch.manual_seed(0)
    found = Generator(config), Discriminator(config)
    for network in found:
        network.load_state_dict({name: torch.randn_like(value) for name, value in network.state_dict().items()})
    return found


@pytest.fixture
def networks():
    return drawn(CONFIG)


@pytest.fixture
def snapshot(foreign, networks):
    """write(protocol=4, **changes): the bytes of a network pickle. `of_g`, `of_d`: what their layers keep of themselves otherwise."""

    def write(protocol=4, change=lambda tensors: tensors, of_g=None, of_d=None, both=networks, **extra):
        g, d = both
        kwargs = foreign.EasyDict(
            c_dim=0, img_channels=3, synthesis_kwargs=foreign.EasyDict(num_fp16_res=0, conv_clamp=None),
            lr=np.float32(0.002), steps=np.int64(7), betas=[np.float64(0), 0.99], sizes=np.arange(3), more=collections.defaultdict(list),
        )  # fmt: skip
        generator = module(foreign, "Generator", change(theirs(g)), {n for n, _ in g.named_parameters()}, recorded(g, **of_g or {}),
                           _init_kwargs=kwargs)  # fmt: skip
        discriminator = module(foreign, "Discriminator", theirs(d), {n for n, _ in d.named_parameters()}, recorded(d, **of_d or {}))
        content = {"G": None, "D": discriminator, "G_ema": generator, "training_set_kwargs": kwargs, "augment_pipe": None, **extra}
        return pickle.dumps(content, protocol=protocol)

    return write


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
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


TINY = dict(resolution=16, z_dim=6, w_dim=5, channel_base=96, channel_max=12, conv_clamp=256.0, half_sizes=2, d_skip_clamp=False)
KINDS = {
    "stylegan3's defaults": dict(mapping_layers=8),
    "without half precision": dict(conv_clamp=None, half_sizes=0, d_skip_clamp=True),
    "auto, conditional": dict(c_dim=3, mapping_layers=2, d_mapping_layers=8),
    "cifar": dict(mapping_layers=2, d_architecture="orig", group=32, d_skip_clamp=True),
    "cifar, conditional": dict(c_dim=3, mapping_layers=2, d_mapping_layers=8, d_architecture="orig", group=32, d_skip_clamp=True),
    "paper256": dict(d_channel_base=64, d_channel_max=8, group=8),
    "a discriminator that sees every size": dict(d_architecture="skip", d_skip_clamp=True),
    "cmap_dim": dict(c_dim=2, d_label_dim=7),
    "minibatch deviations": dict(deviation_maps=3),
    "groups of the whole batch": dict(group=1 << 16),
    "no minibatch deviation": dict(deviation_maps=0),
    "residual": dict(architecture="resnet"),
    "colours at the last size alone": dict(architecture="orig"),
    "another rate of the mapping": dict(mapping_lr=0.002, c_dim=1, d_mapping_lr=0.01),
    "relu": dict(activation="relu", mapping_activation="relu", d_activation="relu"),
    "other activations": dict(activation="tanh", mapping_activation="sigmoid"),
    "grey": dict(img_channels=1),
    "transparent": dict(img_channels=4, d_architecture="skip", d_skip_clamp=True),
}  # fmt: skip


@pytest.mark.parametrize("loud", [1, 600])
@pytest.mark.parametrize("name", KINDS)
def test_networks_of_every_kind_are_the_same_functions(snapshot, tmp_path, name, loud):
    """In float64, and with biases that push activations far beyond the clamp."""
    config = StyleGAN2Config(**{**TINY, **KINDS[name]})
    both = drawn(config)
    for network in both:
        network.load_state_dict({key: value * loud if key.endswith(".bias") and "affine" not in key and "mapping" not in key else value
                                 for key, value in network.state_dict().items()})  # fmt: skip
    group = {"b4.mbstd": {"group_size": None}} if config.group == 1 << 16 else {}
    (tmp_path / "net.pkl").write_bytes(snapshot(both=both, of_d=group))
    opened = open_networks(tmp_path / "net.pkl")
    assert opened.config == (config if config.deviation_maps else replace(config, group=4)) and opened.states.keys() == {"G_ema", "D"}
    of_g, of_d = ({key: value.double() for key, value in network.state_dict().items()} for network in both)
    z, c = torch.randn(4, 6), torch.eye(4)[:, : config.c_dim] if config.c_dim else None
    wide = None if c is None else c.double()
    planes = (of_g[f"synthesis.b{size}.conv{n}.noise_const"] for size in config.sizes for n in (0, 1) if (size, n) != (4, 0))
    ws = mapped(of_g, config, z.double(), wide)[:, None].expand(-1, config.num_ws, -1)
    for found, expected in (
        (opened.generator()(z, c, noise_mode="const"), generated(of_g, config, ws, planes)),
        (opened.discriminator()(image := torch.randn(4, config.img_channels, 16, 16), c), judged(of_d, config, image.double(), wide)),
    ):
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


LEFT_OUT = {
    "another activation": ({"b4.fc": {"activation": "swish"}}, "activation is lrelu .* and swish"),
    "limits of its own": (dict.fromkeys(("b16.fromrgb", "b16.conv0", "b16.conv1", "b8.conv0", "b8.conv1", "b4.conv"), {"conv_clamp": 3}),
                          "its conv_clamp is 3, the generator's 256"),
    "an unknown architecture": ({f"b{size}": {"architecture": "unet"} for size in (4, 8, 16)}, "d_architecture is unet"),
    "another gain": ({"b8.conv0": {"weight_gain": 1.0}}, "weight_gain of b8.conv0 is 1.0; expected"),
    "another number of deviations": ({"b4.mbstd": {"num_channels": 2}}, "minibatch standard deviation"),
    "absurd groups": ({"b4.mbstd": {"group_size": [[]]}}, "group_size of b4.mbstd is a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_discriminator_of_another_kind_is_left_out(snapshot, networks, tmp_path, caplog, name):
    changes, words = LEFT_OUT[name]
    (tmp_path / "net.pkl").write_bytes(snapshot(of_d=changes))
    with caplog.at_level(logging.WARNING):
        opened = open_networks(tmp_path / "net.pkl")
    assert opened.states.keys() == {"G_ema"} and opened.discriminator() is None
    (said,) = caplog.messages
    assert "its discriminator is left out" in said and re.search(words, said)
    assert main(["generate", str(tmp_path / "net.pkl"), "--seeds", "0", "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert main(["convert", str(tmp_path / "net.pkl"), str(tmp_path / "net")]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"synthesis.b8.conv1": {"activation": "swish"}}, "activation is lrelu .* and swish"),
        ({f"mapping.fc{n}": {"activation": "swish"} for n in range(3)}, "mapping_activation is swish; expected"),
        ({"synthesis.b8.conv1": {"conv_clamp": 5}}, "conv_clamp is 256.0 .* and 5 .*expected one value in all layers"),
        ({"synthesis.b8.torgb": {"weight_gain": 1}}, "weight_gain of synthesis.b8.torgb is 1; expected"),
        ({"mapping.fc1": {"bias_gain": 1}}, "bias_gain is 0.01 .* and 1 "),
        ({f"mapping.fc{n}": {"bias_gain": 0} for n in range(3)}, "bias_gain of the mapping is 0; expected"),
        ({"synthesis.b8.conv0": {"act_gain": 1.0}}, "act_gain of synthesis.b8.conv0 is 1.0; expected 1.41421"),
        ({"synthesis.b8.conv0": {"up": 1}}, "up of synthesis.b8.conv0 is 1; expected 2"),
        ({"synthesis.b8.conv0.affine": {"activation": "relu"}}, "activation is .*expected one value"),
        ({"synthesis.b8": {"architecture": "x" * 5_000_000}}, "architecture of synthesis.b8 is x+.*, which is no number or word"),
    ],
)
def test_generators_of_another_kind_are_refused(snapshot, tmp_path, changes, words):
    (tmp_path / "net.pkl").write_bytes(snapshot(of_g=changes))
    with pytest.raises(FaceganError, match=words) as refusal:
        open_networks(tmp_path / "net.pkl")
    assert len(str(refusal.value)) < 600


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
    "numpy object array": (lambda mark: pickle.dumps(np.array([{}], dtype=object)), "dtype O8"),
    "numpy object dtype": (lambda mark: forged("numpy", "dtype", "O8", False, True), "dtype O8"),
    "pickle inside a storage": (lambda mark: storage_of(pickle.dumps(Calls(os.system, f"touch {mark}"))), "storage that asks for"),
    "pickle inside a zip storage": (lambda mark: storage_of(zipped(Calls(os.system, f"touch {mark}"))), "not a readable network"),
    "attributes on a function": (lambda mark: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "a function"),
    "slots on a function": (lambda mark: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "a function"),
    "persistent id": (lambda mark: b"\x80\x02X\x01\x00\x00\x00aQ.", "instruction BINPERSID"),
    "legacy TensorFlow": (lambda mark: forged("dnnlib.tflib.network", "Network"), "TensorFlow"),
    "truncated": (lambda mark: pickle.dumps({"G_ema": list(range(1000))})[:-50], "not a readable network"),
    "not a pickle": (lambda mark: b"<html>404</html>", "not a readable network"),
    "empty": (lambda mark: b"", "not a readable network"),
    "nested too deeply": (lambda mark: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "holds no StyleGAN2 network"),
    "attributes on a dictionary": (lambda mark: forged("collections", "OrderedDict")[:-1] + b"}X\x01\x00\x00\x00aK\x01sb.", "holds no"),
    "a class that writes": (lambda mark: forged("a" * 500_000, "b", 1), r"asks for a{97}\.\.\., which"),
    "a large number": (lambda mark: b"\x80\x02\x8b" + struct.pack("<I", 50_000) + b"\x7f" * 50_000 + b".", "a whole number of 399999 bits"),
    "a large number in digits": (lambda mark: b"L" + b"9" * 1000 + b"L\n.", "a whole number of 33"),
    "a larger one": (lambda mark: b"L" + b"9" * 5000 + b"L\n.", "digits that are no whole number, or too many of them"),
    "an object that is no dictionary": (lambda mark: forged("copy_reg", "_reconstructor", 1, 2, None), "copyreg._reconstructor"),
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
        with pytest.raises(FaceganError, match="not a readable network|a tensor storage that asks for torch._utils._rebuild_tensor_v2"):
            load(pickle.dumps({"it": Bytes(bad)}, protocol=4), "it")
    tensor = Tensor((8,), (1,), stored=Bytes(data))
    assert torch.equal(load(pickle.dumps(tensor, protocol=4), "it"), torch.arange(8.0))


def test_two_bytes_do_not_fill_gigabytes():
    """A memo's index is no size: CPython's C unpickler made room for 2^28 entries here."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load(b"\x80\x02Nr" + struct.pack("<I", 1 << 28) + b".", "it") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    with pytest.raises(FaceganError, match="a string of 1099511627776 bytes"):
        load(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "it")


def test_one_tensor_under_thousands_of_names_is_refused(foreign, tmp_path):
    shared = torch.zeros(1000)
    state = {"_parameters": OrderedDict((f"p{i}", shared) for i in range(1000))}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"G_ema": Persistent(foreign, "Generator", state)}, protocol=4))
    with pytest.raises(FaceganError, match="more numbers than that"):
        open_networks(tmp_path / "net.pkl")


def test_parts_are_not_used_again_and_again():
    """A set of a list that has been made is a copy: of the same one, a few bytes would make thousands."""
    names = b"\x80\x02]q\x00(" + b"".join(b"X\x02\x00\x00\x00%02d" % n for n in range(50)) + b"e"
    copied = b"c__builtin__\nset\nh\x00\x85R0"
    assert load(names + copied + b".", "it") is not None
    with pytest.raises(FaceganError, match="uses the same parts again and again"):
        load(names + b"c__builtin__\nset\nq\x010" + b"h\x01h\x00\x85R0" * 200 + b"N.", "it")


def test_a_pickle_has_so_many_instructions_and_parts_of_so_many_bytes(monkeypatch):
    monkeypatch.setattr("facegan.checkpoints.unpickling._MOST_INSTRUCTIONS", 50)
    with pytest.raises(FaceganError, match="more than 50 instructions"):
        load(b"\x80\x02(" + b"]" * 60 + b"l.", "it")
    monkeypatch.setattr("facegan.checkpoints.unpickling.LARGEST_PART", 50)
    with pytest.raises(FaceganError, match="a string of 60 bytes"):
        load(b"\x80\x03C\x3c" + b"x" * 60 + b".", "it")


def test_what_fails_deep_inside_is_named_and_not_formatted():
    """An object of the file may be endless when written out, and so no exception's arguments are."""
    nested: list = []
    for _ in range(40):
        nested = [nested, nested]
    for protocol in (2, 4):
        data = pickle.dumps(nested, protocol=protocol)[:-1]
        for call in (b"cnumpy\ndtype\n", b"ctorch._utils\n_rebuild_parameter\n", b"ccollections\nOrderedDict\n"):
            with pytest.raises(FaceganError) as refusal:
                load(data[:2] + call + data[2:] + b"\x85R.", "it")
            assert len(str(refusal.value)) < 300


def test_nonsense_among_the_names(snapshot, tmp_path):
    for name in ("synthesis.b4096.conv0.weight", "synthesis.b24.conv0.weight", "synthesis.b32.conv0.weight"):
        (tmp_path / "net.pkl").write_bytes(snapshot(change=lambda t, name=name: {**t, name: torch.zeros(1, 1, 1, 1)}))
        with pytest.raises(FaceganError, match="lacks parts"):
            open_networks(tmp_path / "net.pkl")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(snapshot, tmp_path, value):
    for name, values in (("synthesis.b8.conv0.weight", {0: value}), ("mapping.w_avg", {0: value}), ("synthesis.b4.const", {})):

        def broken(tensors, name=name, values=values):
            whole = tensors[name].clone() if values else tensors[name].to(torch.complex64)
            whole.view(-1)[0] = values.get(0, 1)
            return {**tensors, name: whole}

        (tmp_path / "net.pkl").write_bytes(snapshot(change=broken))
        with pytest.raises(FaceganError, match=f"G_ema.{name} holds values that are not finite|asks for torch.ComplexFloatStorage"):
            open_networks(tmp_path / "net.pkl")


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

    size = {"in_size": np.broadcast_to(np.asarray(36), [2]), "sampling_rate": np.float64(16), "cutoff": np.float32(2)}
    synthesis = module(foreign, "SynthesisNetwork", {"L0_36_512.weight": torch.zeros(1)}, set(), lambda name: size)
    third = {"_modules": OrderedDict(synthesis=synthesis)}
    with pytest.raises(FaceganError, match="StyleGAN3-T and -R"):
        attempt(pickle.dumps({"G_ema": Persistent(foreign, "Generator", third)}, protocol=4))
    with pytest.raises(FaceganError, match="holds no StyleGAN2 network"):
        attempt(pickle.dumps({"weights": [1, 2]}))
    with pytest.raises(FaceganError, match="other than"):
        attempt(snapshot(change=lambda t: {**t, "synthesis.b8.resample_filter": torch.ones(4, 4)}))
    with pytest.raises(FaceganError, match=r"G_ema.synthesis.b8.conv1.bias is \[3\] in the file, and \[12\]"):
        attempt(snapshot(change=lambda t: {**t, "synthesis.b8.conv1.bias": torch.zeros(3)}))
    for name, words in (("synthesis.b16.torgb.weight", "torgb.weight is absent"), ("synthesis.b8.torgb.bias", "absent in the file")):
        with pytest.raises(FaceganError, match=words):
            attempt(snapshot(change=lambda t, name=name: {n: v for n, v in t.items() if n != name}))
    with pytest.raises(FaceganError, match="G_ema.extra"):
        attempt(snapshot(change=lambda t: {**t, "extra": torch.zeros(1)}))


def test_the_format_written_here_names_what_nvidias_does(snapshot):
    """The pickles above are real ones: they name the functions that the reader lists, and carry source text."""
    data = snapshot()
    strings = {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert {"torch_utils.persistence", "_reconstruct_persistent_obj", "dnnlib.util", "EasyDict", SOURCE} <= strings
