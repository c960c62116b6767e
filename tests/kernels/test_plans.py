"""Which plan a synthesis layer runs by: pinned, by rule, measured where that is asked for, remembered."""

from __future__ import annotations

import json
import os

import pytest
import torch

from facegan.errors import FaceganError
from facegan.ops import plans

CUDA = torch.device("cuda")  # nothing here touches it
KEY = ([16, 64, 256, 256], [64, 64, 3, 3], "torch.bfloat16")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "cache"))
    for name in ("FACEGAN_PLAN", "FACEGAN_AUTOTUNE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plans, "_known", {})
    plans._machine.cache_clear()
    yield tmp_path / "cache" / "plans.json"
    plans._machine.cache_clear()


@pytest.fixture
def clock(monkeypatch, cache):
    """A GPU, unknown to the rule, on which each plan takes the time that its candidate returns, and is measured; lists the runs."""
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

    monkeypatch.setattr(plans, "_milliseconds", milliseconds)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU A")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    return runs


def candidates(library, fused):
    return {"library": lambda: library, "fused": lambda: fused}


@pytest.mark.parametrize("library,fused,faster", [(1.0, 2.0, "library"), (2.0, 1.0, "fused")])
def test_the_faster_plan_is_measured_once_and_kept(clock, cache, monkeypatch, library, fused, faster):
    assert plans.choose(KEY, CUDA, candidates(library, fused)) == faster
    assert plans.choose(KEY, CUDA, candidates(fused, library)) == faster
    assert clock == [library, fused]
    monkeypatch.setattr(plans, "_known", {})  # another process
    assert plans.choose(KEY, CUDA, candidates(fused, library)) == faster
    assert clock == [library, fused]
    assert os.listdir(cache.parent) == ["plans.json"]


def test_answers_hold_for_one_shape_gpu_and_version(clock, cache, monkeypatch):
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert plans.choose((*KEY, "noise"), CUDA, candidates(1, 2)) == "library"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU B")
    plans._machine.cache_clear()
    assert plans.choose(KEY, CUDA, candidates(1, 2)) == "library"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU A")
    monkeypatch.setattr(torch, "__version__", "99.0")
    plans._machine.cache_clear()
    assert plans.choose(KEY, CUDA, candidates(1, 2)) == "library"
    monkeypatch.undo()
    content = json.loads(cache.read_text())
    assert sorted(len(known) for known in content.values()) == [1, 1, 2]
    for machine in content:
        assert machine.startswith("GPU ") and " torch " in machine and " triton " in machine and " facegan " in machine


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"m": 3}', "null", b"\xff\xfe", '{"m": {"k": "no plan"}}'])
def test_a_corrupt_file_counts_as_none(clock, cache, content):
    cache.parent.mkdir()
    cache.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert "fused" in next(v for k, v in json.loads(cache.read_text()).items() if k.startswith("GPU A")).values()


def test_answers_of_other_processes_are_kept(clock, cache):
    plans.choose(KEY, CUDA, candidates(2, 1))
    content = json.loads(cache.read_text())
    content["another"] = {"key": "library"}
    cache.write_text(json.dumps(content))
    plans.choose((*KEY, 1), CUDA, candidates(2, 1))
    assert json.loads(cache.read_text())["another"] == {"key": "library"}


def test_an_unwritable_folder_is_only_a_warning(clock, cache, caplog):
    cache.parent.write_text("a file")
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    assert "cannot keep the measured plans" in caplog.text


def test_a_plan_that_cannot_run_is_not_chosen(clock):
    def fails():
        raise RuntimeError("out of memory")

    assert plans.choose(KEY, CUDA, {"library": lambda: 3, "fused": fails}) == "library"


def test_nothing_is_measured_during_capture_or_unasked(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert plans.choose(KEY, torch.device("cpu"), candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    for told in ("0", "yes", ""):
        monkeypatch.setenv("FACEGAN_AUTOTUNE", told)
        assert plans.choose(KEY, CUDA, candidates(2, 1)) == "library"
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "library"
    assert clock == []
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "fused"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert plans.choose(KEY, CUDA, candidates(2, 1)) == "fused"  # known by now
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    assert plans.choose(KEY, CUDA, candidates(1, 2)) == "fused"  # and counts without being asked for
    assert clock == [2, 1]


@pytest.mark.parametrize("capability,most", [((8, 0), 32), ((8, 6), 16), ((8, 9), 32), ((9, 0), 64), ((7, 5), 0), ((12, 0), 0)])
def test_the_rule_for_known_gpus(clock, monkeypatch, capability, most):
    """Few channels of a half type are fused, by what a GPU can compute for a byte it moves; GPUs that nobody reckoned are not."""
    monkeypatch.delenv("FACEGAN_AUTOTUNE")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    def chosen(inputs, outputs, dtype="torch.bfloat16"):
        return plans.choose(([8, inputs, 128, 128], [outputs, inputs, 3, 3], dtype), CUDA, candidates(1, 1))

    for channels in (8, 16, 32, 64, 128):
        assert chosen(channels, channels) == ("fused" if channels <= most else "library")
        assert chosen(8, channels, "torch.float16") == chosen(channels, 8) == chosen(channels, channels)
        assert chosen(channels, channels, "torch.float32") == "library"
    assert clock == []


def test_a_pinned_plan_is_not_measured(clock, monkeypatch):
    for name in plans.PLANS:
        with plans.use_plan(name):
            assert plans.choose(KEY, CUDA, candidates(2, 1)) == name
            with plans.use_plan("auto"):
                assert plans.requested_plan() == "auto"
    assert plans.requested_plan() == "auto"
    monkeypatch.setenv("FACEGAN_PLAN", "fused")
    assert plans.choose(KEY, torch.device("cpu"), candidates(1, 2)) == "fused"
    with plans.use_plan("library"):
        assert plans.choose(KEY, CUDA, candidates(2, 1)) == "library"
    assert clock == []


def test_unknown_plans_are_refused(cache, monkeypatch):
    with pytest.raises(FaceganError, match="plan is 'fast'; expected one of auto, library, fused"), plans.use_plan("fast"):
        pass
    monkeypatch.setenv("FACEGAN_PLAN", "fast")
    with pytest.raises(FaceganError, match="FACEGAN_PLAN is 'fast'"):
        plans.requested_plan()


def test_which_layers_have_a_choice(cache):
    x, few = torch.empty(2, 64, 64, 64), torch.empty(128, 64, 3, 3)

    def rule(x=x, weight=few, padding=1, backend="triton", inference=False):
        return plans.rule(x, weight, padding, backend, inference)

    assert rule() is None  # `choose` is asked
    assert rule(x=x[..., :32]) == rule(weight=torch.empty(129, 64, 3, 3)) == rule(x=x.double()) == "library"
    assert rule(backend="reference") == rule(backend="native") == "library"
    assert rule(backend="native", inference=True) == "fused"
    for unsuited in (dict(x=x.bfloat16()), dict(padding=0), dict(weight=few[:, :, :1, :1]), dict(weight=few[:32]), dict(x=x[..., :4, :4])):
        assert rule(backend="native", inference=True, **unsuited) == "library"
    with plans.use_plan("library"):
        assert rule() == rule(backend="native", inference=True) == "library"
    with plans.use_plan("fused"):
        assert rule(x=x[..., :8]) == rule(weight=few[:32], backend="native", inference=True) == "fused"
        with pytest.raises(FaceganError, match="'fused' is asked for, but the reference backend"):
            rule(backend="reference")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_times_on_a_gpu(cache, monkeypatch):
    monkeypatch.setenv("FACEGAN_AUTOTUNE", "1")
    x = torch.randn(4096, 4096, device="cuda")
    slow = {"library": lambda: x @ x @ x @ x, "fused": lambda: x + 1}
    assert plans.choose(KEY, x.device, slow) == "fused"
    assert torch.cuda.get_device_name() in cache.read_text()
