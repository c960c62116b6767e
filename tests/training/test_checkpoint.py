"""Checkpoints are whole or absent, whatever fails, and run folders know whose they are."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facegan import files
from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import RunFolder
from facegan.errors import FaceganError
from facegan.training.optimizer import adam

OLD, NEW = {"w": torch.arange(6.0).view(2, 3)}, {"w": torch.ones(2, 3)}


def test_round_trip_of_odd_tensors(tmp_path: Path) -> None:
    shared = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    tensors = {"a": shared, "b": shared, "strided": torch.arange(10)[::3], "none": torch.zeros(0, 3, dtype=torch.uint8),
               "scalar": torch.tensor(2.5, dtype=torch.float64, requires_grad=True)}  # fmt: skip
    checkpoint.save(tmp_path / "deep/er", tensors, {"step": 3})
    loaded, metadata = checkpoint.load(tmp_path / "deep/er")
    assert metadata == {"step": 3} and loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in tensors.items())


@pytest.mark.parametrize("fails", ["save_file", "write_text", "rename", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EROFS, "Read-only file system")])
def test_a_failed_save_leaves_the_old_state_whole(fails: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "state", OLD, {"step": 1})
    owner = {"save_file": checkpoint, "write_text": Path, "rename": Path, "fsync": os}[fails]
    with monkeypatch.context() as patch:
        patch.setattr(owner, fails, lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(FaceganError, match="could not save .*what was saved before is whole"):
            checkpoint.save(tmp_path / "state", NEW, {"step": 2})
    tensors, metadata = checkpoint.load(tmp_path / "state")
    assert torch.equal(tensors["w"], OLD["w"]) and metadata == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "state", OLD, {"step": 1})
    real = checkpoint.save_file

    def onto_full_device(tensors: dict, path: Path) -> None:
        Path("/dev/full").write_bytes(b"x" * 100_000)  # the system's own error
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", onto_full_device)
    with pytest.raises(FaceganError, match="No space left on device"):
        checkpoint.save(tmp_path / "state", NEW, {"step": 2})
    assert torch.equal(checkpoint.load(tmp_path / "state")[0]["w"], OLD["w"])


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_at_any_moment_of_replacing_leaves_a_whole_folder_or_none(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    calls = 0

    def mortal(function: Callable) -> Callable:
        def method(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == moment + 1:
                raise Killed
            return function(*arguments, **options)

        return method

    checkpoint.save(tmp_path / "state", OLD, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", mortal(checkpoint.save_file))
        patch.setattr(Path, "rename", mortal(Path.rename))
        patch.setattr(files.os, "replace", mortal(files.os.replace))
        patch.setattr(files.shutil, "rmtree", mortal(files.shutil.rmtree))
        with pytest.raises(Killed):
            checkpoint.save(tmp_path / "state", NEW, {"step": 2})
    files.sweep(tmp_path)
    assert not list(tmp_path.glob(".*"))
    if (tmp_path / "state").exists():
        tensors, metadata = checkpoint.load(tmp_path / "state")
        assert torch.equal(tensors["w"], (OLD if metadata["step"] == 1 else NEW)["w"])
    else:
        assert moment == 2  # between the two renames


def test_unreadable_state_is_told_in_a_sentence(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state", OLD, {})
    (tmp_path / "state/model.safetensors").write_bytes(b"damaged")
    for folder in ("state", "absent"):
        with pytest.raises(FaceganError, match=f"could not read .*{folder}"):
            checkpoint.load(tmp_path / folder)


def test_optimisers_come_back_with_their_moments() -> None:
    def optimiser() -> tuple[torch.nn.Linear, torch.optim.Adam]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.Adam([{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias], "lr": 0.2}])

    def descend(layer: torch.nn.Linear, adam: torch.optim.Adam, step: int) -> None:
        adam.zero_grad()
        layer(torch.full((4, 3), 0.5 + step)).square().sum().backward()
        adam.step()

    (one, adam), (other, fresh) = optimiser(), optimiser()
    for step in range(3):
        descend(one, adam, step)
    other.load_state_dict(one.state_dict())
    saved = {name: tensor.clone() for name, tensor in checkpoint.pack_optimizer("o", adam).items()}
    checkpoint.unpack_optimizer("o", saved, fresh)
    for step in range(3):
        descend(one, adam, step)
        descend(other, fresh, step)
    assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)


def test_fused_adam_goes_on_from_a_file_with_moments_in_the_weights_own_layout(tmp_path: Path) -> None:
    """The fused kernel walks weight, gradient and moments by one index: moments in rows would be other elements'."""

    def optimiser() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
        parameter = torch.nn.Parameter(weight)
        return parameter, adam([parameter], 0.1, (0.5, 0.9), "cpu")

    def descend(parameter: torch.nn.Parameter, step: int) -> torch.Tensor:
        gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(10 + step))
        parameter.grad = gradient.to(memory_format=torch.channels_last)
        return gradient.double()

    parameter, one = optimiser()
    w, m, v = parameter.detach().double(), torch.zeros(4, 3, 3, 3).double(), torch.zeros(4, 3, 3, 3).double()
    for step in range(6):
        if step == 3:  # stopped, and resumed from a file
            checkpoint.save(tmp_path / "state", checkpoint.pack_optimizer("o", one), {})
            weight = parameter.detach().clone()
            parameter, one = optimiser()
            with torch.no_grad():
                parameter.copy_(weight)
            checkpoint.unpack_optimizer("o", checkpoint.load(tmp_path / "state")[0], one)
        g = descend(parameter, step)
        one.step()
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2  # Kingma & Ba 2015, algorithm 1
        w = w - 0.1 * (m / (1 - 0.5 ** (step + 1))) / ((v / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach().double(), w, rtol=1e-5, atol=1e-6)


# --- run folders


def test_stages_whose_names_begin_alike_keep_their_own_checkpoints(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_checkpoint("phase3-beard", 5, OLD, {}, keep=2)
    folder.save_checkpoint("phase3-beard-long", 9, NEW, {}, keep=2)
    folder.save_checkpoint("phase3-[x]", 2, NEW, {}, keep=2)
    for stage, step in (("phase3-beard", 5), ("phase3-beard-long", 9), ("phase3-[x]", 2)):
        found = folder.newest_checkpoint(stage)
        assert found and found[1]["step"] == step
    folder.finish("phase3-beard", OLD, {})
    assert folder.newest_checkpoint("phase3-beard-long") and not folder.newest_checkpoint("phase3-beard")


def test_metrics_are_rewound_to_the_state_resumed_from(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in range(3):
        folder.append_metrics({"step": step})
    folder.save_checkpoint("phase1", 2, OLD, {}, keep=1)
    folder.append_metrics({"step": 3})
    with open(folder.metrics, "a") as handle:
        handle.write('{"step": 4, "D/lo')  # killed here
    found = folder.newest_checkpoint("phase1")
    assert found
    folder.rewind_metrics(found[1]["metrics_bytes"])
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [0, 1, 2]
