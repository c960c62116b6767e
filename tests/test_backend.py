from __future__ import annotations

import contextvars
import json
import threading

import facegan_kernels
import facegan_kernels.native
import pytest
import torch

from facegan import backend, env
from facegan.backend import BackendUnavailable, select, use_backend
from facegan.errors import FaceganError
from facegan.ops import bias_act


@pytest.fixture
def clean(monkeypatch):
    """An empty memory of kernels and choices, and no request from the environment."""
    monkeypatch.setattr(backend, "_found", {})
    monkeypatch.setattr(backend, "_selected", {})
    monkeypatch.setattr(backend, "_default", "auto")
    monkeypatch.setattr(facegan_kernels, "KERNELS", {})
    monkeypatch.setattr(backend, "SMALL", {})


@pytest.fixture
def kernels(clean, monkeypatch):
    """A kernel of the Triton backend for each operator of bias_act, on the CPU, which counts its calls."""
    calls = []

    def find(op, name, device_type):
        if name == "triton" and op.startswith("bias_act"):
            return lambda *args: calls.append(op) or backend._references[op](*args)
        return f"facegan_kernels ships no {name} kernel for {op}"

    monkeypatch.setattr(facegan_kernels, "find", find)
    monkeypatch.setattr(backend, "PREFERENCE", {"cpu": ("triton", "reference")})
    return calls


def test_auto_falls_back_and_says_why(clean):
    assert select("bias_act", torch.zeros(1, 2)) == "reference"
    assert backend.unavailable("bias_act", "triton", "cpu") == "facegan_kernels ships no triton kernel for bias_act"
    assert backend.unavailable("bias_act", "reference", "cpu") is None


def test_a_forced_backend_never_falls_back(clean):
    with use_backend("triton"), pytest.raises(BackendUnavailable, match="'triton' cannot serve bias_act on cpu: facegan_kernels"):
        bias_act(torch.zeros(1, 2))
    assert issubclass(BackendUnavailable, FaceganError)


def test_a_backend_lacking_the_backward_kernel_is_unavailable(clean, monkeypatch):
    monkeypatch.setattr(facegan_kernels, "find", lambda op, *_: "no backward" if op.endswith("backward") else max)
    assert backend.unavailable("bias_act", "native", "cpu") == "no backward"


def test_auto_prefers_a_kernel_forward_and_backward(kernels):
    x = torch.randn(2, 3, 4, requires_grad=True)
    y = bias_act(x)
    assert kernels == ["bias_act"]
    y.sum().backward()
    assert kernels == ["bias_act", "bias_act_backward"]
    with use_backend("reference"):
        bias_act(x)
    assert len(kernels) == 2


def test_auto_leaves_small_tensors_to_pytorch_where_calls_cost_more(kernels, monkeypatch):
    monkeypatch.setattr(backend, "SMALL", {"bias_act": 12})  # of each of two samples
    bias_act(torch.randn(2, 3, 4))
    assert kernels == ["bias_act"]
    bias_act(torch.randn(2, 3, 3))
    assert kernels == ["bias_act"]
    with use_backend("triton"):  # asked for by name, it serves every size
        bias_act(torch.randn(2, 3, 3))
    assert len(kernels) == 2


def test_backward_uses_the_backend_of_forward_from_any_thread(kernels):
    x = torch.randn(2, 3, 4, requires_grad=True)
    with use_backend("triton"):
        y = bias_act(x)
    with use_backend("reference"):
        thread = threading.Thread(target=lambda: y.sum().backward())
        thread.start()
        thread.join()
    assert kernels == ["bias_act", "bias_act_backward"]


def test_use_backend_ends_with_its_block_and_stays_in_its_context(clean):
    seen = []
    with use_backend("reference"):
        with use_backend("native"):
            assert backend.requested_backend() == "native"
        assert backend.requested_backend() == "reference"
        thread = threading.Thread(target=lambda: seen.append(backend.requested_backend()))
        thread.start()
        thread.join()
    assert seen == ["auto"] and backend.requested_backend() == "auto"
    contextvars.copy_context().run(backend.set_backend, "native")
    assert backend.requested_backend() == "auto"


def test_unknown_names(clean, monkeypatch):
    with pytest.raises(FaceganError, match="backend is 'cuda'; expected one of auto, reference, triton, native"), use_backend("cuda"):
        pass
    monkeypatch.setattr(backend, "_default", "gpu")
    with pytest.raises(FaceganError, match="FACEGAN_BACKEND is 'gpu'; expected one of auto"):
        bias_act(torch.zeros(1, 2))


def test_reasons_are_asked_for_once(clean, monkeypatch):
    asked = []
    monkeypatch.setattr(facegan_kernels, "find", lambda *key: asked.append(key) or "no")
    for _ in range(3):
        assert backend.unavailable("upfirdn2d", "native", "cpu") == "no"
    assert asked == [("upfirdn2d", "native", "cpu")]


def test_protocol_gives_reasons(monkeypatch):
    rows = {("triton", "bias_act"): "facegan_kernels.no_such", ("native", "bias_act"): "facegan_kernels.no_such"}
    monkeypatch.setattr(facegan_kernels, "KERNELS", rows)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(facegan_kernels.native, "unavailable", lambda device: None)
    assert facegan_kernels.find("adain", "native", "cpu") == "facegan_kernels ships no native kernel for adain"
    assert facegan_kernels.find("bias_act", "triton", "cpu") == "the triton kernels run on cuda tensors, not on cpu"
    assert "facegan_kernels.no_such cannot be imported: No module" in facegan_kernels.find("bias_act", "native", "cpu")


def test_env_table_and_json(clean, capsys):
    assert env.main([]) == 0
    out = capsys.readouterr().out
    assert f"torch        {torch.__version__}" in out
    assert "facegan_kernels ships no triton kernel for upfirdn2d" in out
    assert env.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ops"]["cpu"]["modulated_conv2d"]["reference"] == "available"
    assert set(found["ops"]["cpu"]) == {"bias_act", "upfirdn2d", "filtered_lrelu", "adain", "adain_affine", "modulated_conv2d"}


@pytest.mark.parametrize(
    "requirement,status,words",
    [
        ("reference", 0, ""),
        ("native", 1, "--require native: facegan_kernels ships no"),
        ("torch", 0, ""),
        ("moon", 1, "unknown; expected one of"),
    ],
)
def test_env_requirements(clean, capsys, monkeypatch, requirement, status, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert env.main(["--require", requirement]) == status
    error = capsys.readouterr().err
    assert words in error and bool(error) == bool(status)
