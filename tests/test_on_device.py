"""Every command that computes, on a GPU (pretended: see pretend_gpu.py) as on the CPU: no tensor is left behind on the other device,
what comes out is the same to rounding (Adam's in a projection is another on a GPU)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_gpu import OnGPU, PretendGPU, pretend_gpu

from facegan import cli
from facegan.backend import use_backend
from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.checkpoints.trained import TrainedRun, random_noise
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.network import JudgeConfig
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.restore.restorer import RestorerPipeline
from facegan.styles.mix import Renderer

OWN = {"seconds", "command", "machine", "device", "weights_sha256", "request", "run", "floor_run"}  # of a report: where and how


@pytest.fixture(scope="module", autouse=True)
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Judges of a few steps, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(tmp_path_factory.mktemp("judges")))
        patch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        yield


@pytest.fixture(scope="module")
def method_a(train: Callable[..., Path]) -> Path:
    return train(critics="all", merge="regional")


@pytest.fixture(scope="module")
def method_b(train: Callable[..., Path]) -> Path:
    return train(method="b", preset="tiny", phase2_epochs=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained StyleGAN2 whose noise shows."""
    torch.manual_seed(3)
    config = StyleGAN2Config(resolution=16, z_dim=32, w_dim=32, mapping_layers=2, channel_base=256, channel_max=16)
    generator = Generator(config).requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
    folder = tmp_path_factory.mktemp("network") / "net"
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": generator.state_dict(), "D": Discriminator(config).state_dict()}), folder)
    return folder


@pytest.fixture
def both(tmp_path: Path) -> Callable[..., PretendGPU]:
    """Runs a command on the CPU and on the pretended GPU, and compares every file that it wrote."""

    def both(*words: object) -> PretendGPU:
        line = [str(word) for word in words]
        outs = {device: tmp_path / device.partition(":")[0] for device in ("cpu", "cuda:0")}
        with use_backend("reference"):
            assert cli.main([*line, "--device", "cpu", "--out", str(outs["cpu"])]) == 0
        with pretend_gpu() as mode:
            before = torch.random.get_rng_state()
            assert cli.main([*line, "--device", "cuda:0", "--out", str(outs["cuda:0"])]) == 0
            assert torch.equal(before, torch.random.get_rng_state())
        ours, theirs = ({file.relative_to(out): file for file in out.rglob("*") if file.is_file()} for out in outs.values())
        assert ours.keys() == theirs.keys() and ours
        for name in ours:
            assert difference(ours[name], theirs[name]) == "", name
        assert any(wait.endswith("to the CPU") for wait in mode.waits)  # it did compute there
        return mode

    return both


def difference(one: Path, other: Path) -> str:
    """What of two files is not the same, to rounding; "" for nothing."""
    if one.suffix == ".png":
        pixels = [np.asarray(Image.open(file), float) for file in (one, other)]
        return "" if np.abs(pixels[0] - pixels[1]).max() <= 1 else f"{np.abs(pixels[0] - pixels[1]).max():g} levels"
    if one.suffix == ".npz":
        ours, theirs = ({name: value for name, value in np.load(file).items() if name != "facts"} for file in (one, other))
        far = [name for name, value in ours.items() if not np.allclose(value, theirs[name], rtol=1e-3, atol=1e-3)]
        return ", ".join(far) or str({*ours} ^ {*theirs} or "")
    if one.suffix == ".json":
        ours, theirs = (dict(leaves(json.loads(file.read_text()))) for file in (one, other))
        far = [f"{name} {value} {theirs.get(name)}" for name, value in ours.items() if not alike(value, theirs.get(name))]
        return "; ".join(far) or str({*ours} ^ {*theirs} or "")
    text, same = (file.read_text().partition("\n\n    ")[0] for file in (one, other))  # the command and the machine follow
    return "" if text == same else f"{text}\n{same}"


def alike(value: object, other: object) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-3, abs_tol=1e-5)
    return value == other


def leaves(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in a nested record but what is its own."""
    if isinstance(record, (dict, list)):
        for name, value in record.items() if isinstance(record, dict) else enumerate(record):
            if name not in OWN:
                yield from leaves(value, f"{path}/{name}")
    else:
        yield path, record


def test_generate(both: Callable[..., PretendGPU], method_a: Path, method_b: Path) -> None:
    both("generate", method_a, "--seeds", "0-5", "--best", "3")


def test_generate_from_a_network(both: Callable[..., PretendGPU], network: Path) -> None:
    both("generate", network, "--seeds", "0-2", "--noise-mode", "random", "--truncation", "0.7")


def test_evaluate(both: Callable[..., PretendGPU], method_b: Path) -> None:
    both("evaluate", method_b, "--samples", "8")


def test_evaluate_before_and_after(both: Callable[..., PretendGPU], method_a: Path, train: Callable[..., Path], prior: str) -> None:
    both("evaluate", method_a, "--samples", "8", "--restore", train(method="restore", prior=prior))


def test_evaluate_and_use_a_restorer(both: Callable[..., PretendGPU], train: Callable[..., Path], prior: str) -> None:
    both("evaluate", train(method="restore", prior=prior), "--samples", "6")


def test_restore(both: Callable[..., PretendGPU], train: Callable[..., Path], prior: str, method_a: Path) -> None:
    both("restore", "--from-run", method_a, "--num", "3", "--weights", train(method="restore", prior=prior))


def test_mix(both: Callable[..., PretendGPU], network: Path) -> None:
    both("mix", "--network", network, "--rows", "0-1", "--cols", "2-3", "--layers", "2-3", "--noise-mode", "random")


def test_search(both: Callable[..., PretendGPU], method_b: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegan.styles.search.ROUNDS", 0)  # the ranges of layers are enough of it
    both("mix-search", "--network", method_b, "--rows", "0-2", "--cols", "3-5", "--num-random", "2", "--mode", "crossover")


def test_project_and_edit(both: Callable[..., PretendGPU], network: Path, method_b: Path, tmp_path: Path) -> None:
    assert cli.main(["generate", str(network), "--seeds", "7", "--out", str(tmp_path / "photo")]) == 0
    photo = tmp_path / "photo/seed0007.png"
    both("project", "--network", network, "--target", photo, "--steps", "4", "--space", "w+")
    assert cli.main(["styles", "average", str(tmp_path / "cpu"), "--out", str(tmp_path / "styles/that.npz")]) == 0
    for out in ("cpu", "cuda"):
        (tmp_path / out).rename(tmp_path / f"projected-{out}")
    both("edit", photo, "--network", network, "--styles", tmp_path / "styles", "--add", "that", "--critics", method_b, "--steps", "3")


def test_faces_and_scores_come_back_to_the_cpu(method_a: Path) -> None:
    with pretend_gpu():
        run = TrainedRun(method_a, device="cuda:0")
        assert all(isinstance(value, OnGPU) for critic in run.critics() for value in critic.parameters())
        faces = run.faces(range(3))
        scores = run.critic_scores(faces)
        assert scores is not None
        assert not isinstance(faces, OnGPU) and not isinstance(scores, OnGPU)


@pytest.mark.parametrize("which", ["method_a", "method_b", "prior"])
def test_a_generator_on_a_gpu_waits_for_nothing(which: str, request: pytest.FixtureRequest) -> None:
    """So that it can be a CUDA graph, and the GPU never idles: what is fixed lies there from the second call on."""
    run = TrainedRun(request.getfixturevalue(which), device="cpu")
    z = np.random.default_rng(0).standard_normal((3, *run.z_shape), dtype=np.float32)
    with torch.no_grad(), use_backend("reference"):
        expected = run.graphed(z, None)
    with pretend_gpu() as mode, torch.no_grad():
        run = TrainedRun(request.getfixturevalue(which), device="cuda:0")
        for _ in range(2):
            mode.waits.clear()
            faces = run.graphed(z, None)
        assert mode.waits == [] and isinstance(faces, OnGPU)
        assert torch.equal(faces.cpu(), expected)


def test_a_restorer_and_mixes_on_a_gpu_wait_for_nothing(train: Callable[..., Path], prior: str, network: Path) -> None:
    weights = str(train(method="restore", prior=prior))
    with pretend_gpu() as mode, torch.no_grad():
        restorer = RestorerPipeline(weights, 0, "cuda:0")
        faces = torch.rand(2, 3, 16, 16).to("cuda:0")
        draw = Renderer(open_networks(network).generator().to("cuda:0"), "random")
        ws = torch.rand(1, draw.generator.config.num_ws, 32)
        for _ in range(2):
            mode.waits.clear()
            restorer.graphed(faces)
            draw.graphed(ws, random_noise(draw.generator.config, "random", 1, draw.device, seed=1))
        assert mode.waits == []


def test_the_card_of_a_judge_says_where_it_was_trained_and_a_cpu_does_not_take_a_gpus(method_a: Path) -> None:
    from facegan.evaluation.evaluator import Evaluator

    config = TrainedRun(method_a).config
    with pretend_gpu():
        assert Evaluator(config, device="cuda:0").judge.card["device"] == "cuda (a pretended GPU)"
    assert Evaluator(config, device="cpu").judge.card["device"] == "cpu"


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    with pretend_gpu() as mode:
        x, here = torch.randn(3, 4, device="cuda:0"), torch.ones(3, 4)
        assert x.device.type == "cuda" and (x + torch.tensor(1.0)).device == x.device and x[torch.tensor([0, 2])].shape == (2, 4)
        for wrong in (lambda: x + here, lambda: here @ x.mT, lambda: torch.cat([x, here]), lambda: here[x.argmax(1)], lambda: x.numpy(),
                      lambda: torch.randn(2, generator=torch.Generator(), device="cuda:0"),
                      lambda: torch.randn(2, generator=torch.Generator("cuda:0")), lambda: here.add_(x)):  # fmt: skip
            with pytest.raises((AssertionError, RuntimeError)):
                wrong()
        assert mode.waits == []
        here.to("cuda:0", non_blocking=True)
        assert mode.waits == []
        for waiting in (lambda: x.sum().item(), lambda: x.cpu(), lambda: x.nonzero(), lambda: here.to("cuda:0"), lambda: bool(x.any())):
            waiting()
            assert len(mode.waits) == 1 and mode.waits.pop()
