"""`--device`: what each name means here, and what is said of a device that is not here."""

from __future__ import annotations

import pytest
import torch

from facegan import devices
from facegan.devices import check_device, resolve_device
from facegan.errors import FaceganError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Two GPUs, as far as PyTorch says; the list is of those that became current."""
    current: list[torch.device] = []
    monkeypatch.setattr(devices, "gpu_here", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return current


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_here", lambda: False)


def test_auto_is_a_gpu_where_there_is_one(gpus: list[torch.device]) -> None:
    first = torch.device("cuda", 0)
    assert resolve_device() == resolve_device("auto") == resolve_device("cuda") == first and gpus == [first] * 3
    assert resolve_device("cuda:1") == torch.device("cuda", 1) == gpus[-1]
    assert resolve_device("cpu") == torch.device("cpu") and len(gpus) == 4


def test_auto_is_the_cpu_elsewhere(no_gpu: None) -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_one_sentence_with_what_is(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(FaceganError, match=r"^`device` is cuda, but this PyTorch is built without CUDA: there is cpu alone$"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(FaceganError, match=r"^`device` is cuda:1, but PyTorch finds no usable GPU .*: there is cpu alone$"):
        resolve_device("cuda:1")


def test_one_of_several_gpus_that_is_not_there(gpus: list[torch.device]) -> None:
    with pytest.raises(FaceganError, match=r"^`device` is cuda:2, but there is cuda:0 \(card 0\), cuda:1 \(card 1\), and cpu$"):
        resolve_device("cuda:2")
    assert not gpus


def test_several_processes_have_a_gpu_each(gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, index in (("0", 0), ("1", 1), ("2", 0)):  # more processes than GPUs take turns, as Accelerate's do
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", index)
    with pytest.raises(FaceganError, match="`device` is cuda:0, one GPU for 3 processes"):
        resolve_device("cuda:0")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0 ", "cpu:0", "CUDA", "mps", "cuda:٣"])
def test_words_that_name_no_device(name: str) -> None:
    with pytest.raises(FaceganError, match="^`device` is .*: expected auto, cpu, cuda, or cuda:N$"):
        check_device(name)
    with pytest.raises(FaceganError):
        resolve_device(name)
