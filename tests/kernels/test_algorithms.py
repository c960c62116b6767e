"""Which algorithm runs a synthesis layer: pinned, by rule, measured where that is asked for, remembered."""

from __future__ import annotations

import json
import os

import pytest
import torch

from facegan.errors import FaceganError
from facegan.ops import modulated_conv2d, registration
from facegan.ops.activation import Activation
from facegan.ops.modulated_conv2d import algorithms, measured
from facegan.ops.modulated_conv2d.algorithms import Algorithm, Layer, use_algorithm

CUDA = torch.device("cuda")  # nothing here touches it
KEY = ([16, 64, 256, 256], [64, 64, 3, 3], "torch.bfloat16")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "cache"))
    for name in ("FACEGAN_ALGORITHM", "FACEGAN_AUTOTUNE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(measured, "_known", {})
    measured._machine.cache_clear()
    yield tmp_path / "cache" / "algorithms.json"
    measured._machine.cache_clear()


@pytest.fixture
def clock(monkeypatch, cache):
    """A GPU, unknown to the rule, on which each algorithm takes the time that its candidate returns, and is measured; lists the runs."""
    runs = []

    class Device:
        def __init__(self, _):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    def milliseconds(run):
        runs.append(run())
        return runs[-1]

    monkeypatch.setattr(measured, "_milliseconds", milliseconds)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU A")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    return runs


def candidates(library, fused):
    return {"library": lambda: library, "fused": lambda: fused}


@pytest.mark.parametrize("library,fused,faster", [(1.0, 2.0, "library"), (2.0, 1.0, "fused")])
def test_the_faster_algorithm_is_measured_once_and_kept(clock, cache, monkeypatch, library, fused, faster):
    assert measured.choose(KEY, CUDA, candidates(library, fused)) == faster
    assert measured.choose(KEY, CUDA, candidates(fused, library)) == faster
    assert clock == [library, fused]
    monkeypatch.setattr(measured, "_known", {})  # another process
    assert measured.choose(KEY, CUDA, candidates(fused, library)) == faster
    assert clock == [library, fused]
    assert os.listdir(cache.parent) == ["algorithms.json"]


def test_answers_hold_for_one_shape_gpu_and_version(clock, cache, monkeypatch):
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert measured.choose((*KEY, "noise"), CUDA, candidates(1, 2)) == "library"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU B")
    measured._machine.cache_clear()
    assert measured.choose(KEY, CUDA, candidates(1, 2)) == "library"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU A")
    monkeypatch.setattr(torch, "__version__", "99.0")
    measured._machine.cache_clear()
    assert measured.choose(KEY, CUDA, candidates(1, 2)) == "library"
    monkeypatch.undo()
    content = json.loads(cache.read_text())
    assert sorted(len(known) for known in content.values()) == [1, 1, 2]
    for machine in content:
        assert machine.startswith("GPU ") and " torch " in machine and " triton " in machine and " facegan " in machine


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"m": 3}', "null", b"\xff\xfe", '{"m": {"k": "no algorithm"}}'])
def test_a_corrupt_file_counts_as_none(clock, cache, content):
    cache.parent.mkdir()
    cache.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert "fused" in next(v for k, v in json.loads(cache.read_text()).items() if k.startswith("GPU A")).values()


def test_answers_of_other_processes_are_kept(clock, cache):
    measured.choose(KEY, CUDA, candidates(2, 1))
    content = json.loads(cache.read_text())
    content["another"] = {"key": "library"}
    cache.write_text(json.dumps(content))
    measured.choose((*KEY, 1), CUDA, candidates(2, 1))
    assert json.loads(cache.read_text())["another"] == {"key": "library"}


def test_an_unwritable_folder_is_only_a_warning(clock, cache, caplog):
    cache.parent.write_text("a file")
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert "cannot keep the measured algorithms" in caplog.text


def test_an_algorithm_that_cannot_run_is_not_chosen(clock):
    def fails():
        raise RuntimeError("out of memory")

    assert measured.choose(KEY, CUDA, {"library": lambda: 3, "fused": fails}) == "library"


def test_nothing_is_measured_during_capture_or_unasked(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert measured.choose(KEY, torch.device("cpu"), candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    for told in ("0", "yes", ""):
        monkeypatch.setenv("FACEGAN_AUTOTUNE", told)
        assert measured.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "library"
    assert clock == []
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert measured.choose(KEY, CUDA, candidates(2, 1)) == "fused"  # known by now
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    assert measured.choose(KEY, CUDA, candidates(1, 2)) == "fused"  # and counts without being asked for
    assert clock == [2, 1]


@pytest.mark.parametrize("capability,most", [((8, 0), 32), ((8, 6), 16), ((8, 9), 32), ((9, 0), 64), ((7, 5), 0), ((12, 0), 0)])
def test_the_rule_for_known_gpus(clock, monkeypatch, capability, most):
    """Few channels of a half type are fused, by what a GPU can compute for a byte it moves; GPUs that nobody reckoned are not."""
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    def chosen(inputs, outputs, dtype="torch.bfloat16"):
        return measured.choose(([8, inputs, 128, 128], [outputs, inputs, 3, 3], dtype), CUDA, candidates(1, 1))

    for channels in (8, 16, 32, 64, 128):
        assert chosen(channels, channels) == ("fused" if channels <= most else "library")
        assert chosen(8, channels, "torch.float16") == chosen(channels, 8) == chosen(channels, channels)
        assert chosen(channels, channels, "torch.float32") == "library"
    assert clock == []


def test_a_pinned_algorithm_is_not_measured(layer, monkeypatch):
    monkeypatch.setattr(measured, "choose", lambda *_: pytest.fail("measured"))
    for name in ("library", "fused"):
        with use_algorithm(name):
            assert algorithms.choose(layer(), "triton").value == algorithms.requested_algorithm() == name
            with use_algorithm("auto"):
                assert algorithms.requested_algorithm() == "auto"
    assert algorithms.requested_algorithm() == "auto"
    monkeypatch.setenv("FACEGAN_ALGORITHM", "fused")
    assert algorithms.choose(layer(), "triton") is Algorithm.FUSED
    with use_algorithm("library"):
        assert algorithms.choose(layer(), "triton") is Algorithm.LIBRARY


def test_unknown_algorithms_are_refused(cache, monkeypatch):
    for name in ("fast", "prepacked"):  # the other algorithms follow from what is asked of the layer
        with pytest.raises(FaceganError, match=f"algorithm is '{name}'; expected one of auto, library, fused"), use_algorithm(name):
            pass
    monkeypatch.setenv("FACEGAN_ALGORITHM", "fast")
    with pytest.raises(FaceganError, match="FACEGAN_ALGORITHM is 'fast'"):
        algorithms.requested_algorithm()


@pytest.fixture
def layer(cache, monkeypatch):
    """layer(o=3, x="cuda"): a Layer of 64 channels, 3 x 3, 64 x 64 px, a network's weight and no gradient wanted, but for what is given.

    Tensors "of a GPU" are on the meta device, which here counts as any that is no CPU.
    """
    monkeypatch.setattr(measured, "choose", lambda *_: "fused")

    def layer(i=64, o=64, size=3, side=64, n=1, dtype=torch.float32, device="cpu", parameter=True, wants=(), noise=False, **options):
        given = dict(up=1, down=1, padding=size // 2, demodulate=True, flip_weight=True) | options
        tensors = {"x": (n, i, side, side), "weight": (o, i, size, size), "styles": (n, i), "noise": (1, 1, side, side), "bias": (o,)}
        made = {name: torch.ones(shape, dtype=dtype, device=device, requires_grad=name in wants) for name, shape in tensors.items()}
        if parameter:
            made["weight"] = torch.nn.Parameter(made["weight"].detach(), requires_grad="weight" in wants)
        if given.pop("other_dtype", False):
            made["styles"] = made["styles"].double()
        if not noise:
            made["noise"] = None
        return Layer(**made, f=torch.ones(4), activation=Activation("lrelu", 0.2, 1.0, None), **given)

    return layer


RGB = dict(o=3, size=1, demodulate=False)
SMALL_WEIGHT = dict(i=40, o=40)  # 14,400 elements
TRUTH = [  # backend, what is unlike the layer of the fixture, the algorithm
    ("reference", {}, "REFERENCE"),
    ("reference", RGB, "REFERENCE"),
    ("reference", dict(n=0), "REFERENCE"),
    # toRGB: 1 x 1, at most four outputs, and nothing but a bias and an activation after it
    ("native", RGB, "POINTWISE"),
    ("triton", RGB | dict(o=4, wants=("x", "weight")), "POINTWISE"),
    ("native", RGB | dict(n=0), "POINTWISE"),
    ("native", RGB | dict(o=5), "LIBRARY"),
    ("native", RGB | dict(demodulate=True), "LIBRARY"),
    ("native", RGB | dict(noise=True), "LIBRARY"),
    ("native", RGB | dict(padding=1), "LIBRARY"),
    ("native", dict(o=3, demodulate=False), "LIBRARY"),
    # operators with gradients of their own: nothing to compute, or a 1 x 1 kernel beside a filter
    ("native", dict(n=0), "COMPOSED"),
    ("triton", dict(i=0), "COMPOSED"),
    ("native", RGB | dict(up=2), "COMPOSED"),
    ("triton", dict(size=1, down=2), "COMPOSED"),
    # inference on a CPU: Winograd's filtering for many channels, pixels, float32, 3 x 3, padding 1 and a weight that stays
    ("native", {}, "FUSED"),
    ("native", dict(side=16), "FUSED"),
    ("native", dict(side=15), "PREPACKED"),
    ("native", dict(o=63), "PREPACKED"),
    ("native", dict(i=63), "PREPACKED"),
    ("native", dict(padding=0), "PREPACKED"),
    ("native", dict(size=5), "PREPACKED"),
    ("native", dict(dtype=torch.bfloat16), "PREPACKED"),
    ("native", dict(device="meta"), "PREPACKED"),
    ("native", dict(up=2), "PREPACKED"),
    ("native", dict(down=2), "PREPACKED"),
    # nothing can be kept of a weight that passes, is cast, is tiny, or is being trained
    ("native", dict(parameter=False), "LIBRARY"),
    ("native", dict(parameter=False, up=2), "LIBRARY"),
    ("native", dict(other_dtype=True), "LIBRARY"),
    ("native", SMALL_WEIGHT, "LIBRARY"),
    *[("native", dict(wants=(name,), noise=True), "LIBRARY") for name in ("x", "weight", "styles", "noise", "bias")],
    ("native", dict(wants=("bias",), down=2), "LIBRARY"),
    # on a GPU the implicit GEMM, by measurement or rule, for few channels and many pixels, of any dtype but float64
    ("triton", dict(device="meta"), "FUSED"),
    ("triton", dict(device="meta", wants=("weight",)), "FUSED"),
    ("triton", dict(device="meta", i=128, o=128, dtype=torch.float16), "FUSED"),
    ("triton", dict(device="meta", o=129), "LIBRARY"),
    ("triton", dict(device="meta", i=129), "LIBRARY"),
    ("triton", dict(device="meta", side=63), "LIBRARY"),
    ("triton", dict(device="meta", dtype=torch.float64), "LIBRARY"),
    ("triton", dict(device="meta", up=2), "LIBRARY"),
]


@pytest.mark.parametrize("backend,changes,expected", TRUTH)
def test_the_algorithm_of_a_layer(layer, backend, changes, expected):
    assert algorithms.choose(layer(**changes), backend) is Algorithm[expected]
    with use_algorithm("library"):  # is a choice between two
        pinned = algorithms.choose(layer(**changes), backend).name
    kept = "PREPACKED" if backend == "native" else "LIBRARY"
    assert pinned == (kept if expected == "FUSED" else expected)


def test_the_algorithm_where_fused_is_pinned(layer, monkeypatch):
    with use_algorithm("fused"):
        for changes in ({}, dict(side=4), dict(o=32)):
            assert algorithms.choose(layer(**changes), "native") is Algorithm.FUSED
        for changes in (dict(size=5), dict(wants=("x",)), dict(parameter=False)):
            assert algorithms.choose(layer(**changes), "native") is not Algorithm.FUSED
        for changes in ({}, dict(side=4), dict(o=512)):
            assert algorithms.choose(layer(device="meta", **changes), "triton") is Algorithm.FUSED
        assert algorithms.choose(layer(device="meta", dtype=torch.float64), "triton") is Algorithm.LIBRARY
        assert algorithms.choose(layer(device="meta", up=2), "native") is Algorithm.PREPACKED
        with pytest.raises(FaceganError, match="'fused' is asked for, but the native backend serves modulated_conv2d on meta"):
            algorithms.choose(layer(device="meta"), "native")


def test_a_compiler_and_no_grad_change_the_algorithm(layer, monkeypatch):
    with torch.no_grad():
        assert algorithms.choose(layer(wants=("x", "weight")), "native") is Algorithm.FUSED
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert algorithms.choose(layer(), "native") is algorithms.choose(layer(wants=("x",)), "triton") is Algorithm.COMPOSED
    assert algorithms.choose(layer(**RGB), "native") is Algorithm.POINTWISE
    assert algorithms.choose(layer(), "reference") is Algorithm.REFERENCE


def test_candidates_compute_the_same_layer(cache, monkeypatch):
    """What is measured is the layer itself, by either algorithm; of a GPU's choice the CPU's operators show it."""
    found = {}

    def choose(key, device, candidates):
        found.update({name: run() for name, run in candidates.items()})
        assert key == ([2, 8, 64, 64], [8, 8, 3, 3], "torch.float32", False, True, False) and device.type == "cpu"
        return "library"

    monkeypatch.setattr(measured, "choose", choose)
    monkeypatch.setattr(algorithms, "operators", lambda _: registration.operators("reference"))
    x, weight, styles = torch.randn(2, 8, 64, 64), torch.randn(8, 8, 3, 3), torch.rand(2, 8)
    layer = Layer(x, weight, styles, True, None, 1, 1, 1, True, None, torch.randn(8), Activation("lrelu", 0.2, 1.5, 2.0))
    assert algorithms.choose(layer, "triton") is Algorithm.LIBRARY
    expected = modulated_conv2d(x, weight, styles, padding=1, bias=layer.bias, act="lrelu", gain=1.5, clamp=2.0)
    for name in ("library", "fused"):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_times_on_a_gpu(cache, monkeypatch):
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    x = torch.randn(4096, 4096, device="cuda")
    slow = {"library": lambda: x @ x @ x @ x, "fused": lambda: x + 1}
    assert measured.choose(KEY, x.device, slow) == "fused"
    assert torch.cuda.get_device_name() in cache.read_text()
