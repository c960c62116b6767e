"""Functions and whole trainings as graphs, on the CPU, where a recording of operators stands in for one of kernels (`facegan.tape`)."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facegan import graphs, tape
from facegan.backend import use_backend
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.ops import bias_act
from facegan.tape import HostRead, Tape
from facegan.training import ada, loop

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(graphs, "WARMUP", 1)
    ada._sym6(CPU)  # on a CPU, calls with p = 0 need no filter, and so do not make it before the recording
    with tape.on_the_cpu():
        yield


# --- the engine


def test_a_replay_computes_from_new_inputs_without_calling_python() -> None:
    calls: list[int] = []

    def function(parts: list[torch.Tensor], factor: torch.Tensor, sign: str) -> dict[str, Any]:
        calls.append(1)
        return {"sum": torch.stack(parts).sum(0) * factor, "sign": (-parts[0] if sign == "-" else parts[0],)}

    graphed = Graphed(function, CPU, "on")
    random = np.random.default_rng(0)
    kept = []
    for call in range(6):
        for sign in "+-":
            a, b = random.standard_normal((3, 4)).astype(np.float32), torch.from_numpy(random.standard_normal((3, 4)).astype(np.float32))
            factor = np.array(random.random(), dtype=np.float32)
            found = graphed([a, b], factor, sign)
            np.testing.assert_allclose(found["sum"], (a + b.numpy()) * factor, rtol=1e-6)
            np.testing.assert_array_equal(found["sign"][0], a if sign == "+" else -a)
            kept.append((found["sum"], found["sum"].clone()))
        if call == 2:
            count = len(calls)
    assert len(calls) == count == 8  # of each kind: as it is, recorded, and twice to be compared
    assert all(torch.equal(result, copy) for result, copy in kept)  # not overwritten


def test_shapes_and_plain_values_have_graphs_of_their_own_and_few_are_kept() -> None:
    graphed = Graphed(lambda x, power: x**power, CPU, "on")
    for count in range(1, 2 * graphs.MOST):
        for power in (2, 2, 2, 3):
            x = torch.arange(count, dtype=torch.float32)
            assert torch.equal(graphed(x, power), x**power)
    assert len(graphed.entries) == graphs.MOST


def test_a_graph_is_of_one_backend_and_either_with_gradients_or_without() -> None:
    weight = torch.ones(3, requires_grad=True)
    graphed = Graphed(lambda x: bias_act(x * weight, act="relu"), CPU, "on")
    x = torch.arange(-3.0, 3).view(2, 3)
    for _ in range(4):
        for name in ("auto", "reference"):
            for context in (torch.enable_grad(), torch.no_grad(), torch.inference_mode()):
                with use_backend(name), context:
                    assert torch.equal(graphed(x), x.clamp(min=0) * 2**0.5)
    assert len(graphed.entries) == 6 and graphed.record


def test_what_is_sent_arrives_bit_by_bit_whatever_its_dtype_and_layout() -> None:
    random = np.random.default_rng(1)
    arrays = [random.standard_normal((2, 3)).astype(np.float32), random.integers(0, 255, (2, 3, 5, 4), dtype=np.uint8)[:, :, ::-1],
              np.array([True, False, True]), random.integers(0, 9, (4,)), np.zeros((0, 3), np.float32), np.array(0.5)]  # fmt: skip
    buffers = graphs.Buffers(arrays, CPU)
    for _ in range(2):
        buffers.fill(arrays)
        for array, buffer, plain in zip(arrays, buffers.tensors, graphs.sent(arrays, CPU), strict=True):
            assert np.array_equal(buffer.numpy(), array) and np.array_equal(plain.numpy(), array)
            assert buffer.numpy().dtype == array.dtype == plain.numpy().dtype and buffer.shape == array.shape == plain.shape
        arrays = [array[::-1].copy() if array.ndim else np.array(array + 1) for array in arrays]


class Counter:
    """State that changes in place, and a function that is a faulty one where `fault` says so."""

    def __init__(self, fault: str = "") -> None:
        self.total, self.fault, self.calls = torch.zeros(4), fault, 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.fault == "a number of the host":
            x = x * self.calls
        elif self.fault == "a tensor that is not where it was":
            x = x + self.elsewhere
        elif self.fault == "reads":
            x = x + float(x[0])
        elif self.fault == "memory" and self.calls == 6:  # the first call of another kind, beside a graph
            self.total.add_(99)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        elif self.fault == "fails" and graphs.recording():
            self.total.add_(99)
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.total.add_(x)
        return self.total.sum()


def totals(fault: str, mode: str) -> tuple[list[float], Graphed]:
    counter = Counter(fault)
    graphed = Graphed(counter, CPU, mode, state=lambda: [counter.total], name="counting")
    found = []
    for call in range(6):
        counter.elsewhere = torch.tensor(float(call))
        found.append(float(graphed(torch.full((4,), 1.0 + call))))
    return found, graphed


def test_state_changes_once_a_call(caplog: pytest.LogCaptureFixture) -> None:
    found, graphed = totals("", "on")
    assert found == totals("", "off")[0] == [4 * (call + 1) * (call + 2) / 2 for call in range(6)]
    assert graphed.record and not caplog.records


@pytest.mark.parametrize("fault", ["a number of the host", "a tensor that is not where it was"])
def test_a_replay_that_computes_something_else_is_found_and_told(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    _, graphed = totals(fault, "on")
    assert graphed.record is None
    (record,) = caplog.records
    assert record.message.startswith("CUDA graphs: counting computed something else as a graph (off by ")


def test_what_cannot_be_recorded_goes_on_from_the_state_before(caplog: pytest.LogCaptureFixture) -> None:
    found, graphed = totals("fails", "on")
    assert found == totals("", "off")[0] and graphed.record is None
    (record,) = caplog.records
    assert record.message == (
        "CUDA graphs: counting could not be recorded (operation not permitted when stream is capturing); it does without them, "
        "as with `cuda_graphs=off`"
    )


def test_a_capture_shares_memory_keeps_the_collector_out_and_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of PyTorch's interface, in place of a GPU: what a capture is given, and how it ends when it fails."""
    captures, streams = list[dict[str, Any]](), ["the current one"]

    @contextmanager
    def capture(graph: object, **options: Any) -> Iterator[None]:
        captures.append(options)
        streams.append(options["stream"])
        yield  # PyTorch's, too, comes back to the stream before only from a capture that went well
        streams.pop()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: captures.append({"replay": True})))
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: object())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    first = graphs.CudaGraph(lambda: gc.isenabled(), "side", None)  # type: ignore[arg-type]
    second = graphs.CudaGraph(lambda: streams[-1], "side", first)  # type: ignore[arg-type]
    assert first.outputs is False and gc.isenabled() and second.outputs == "side"
    assert captures[0]["pool"] is captures[1]["pool"] is first.pool and captures[0]["capture_error_mode"] == "thread_local"
    with pytest.raises(ValueError):
        graphs.CudaGraph(lambda: [].index(0), "side", None)  # type: ignore[arg-type]
    assert captures[2]["pool"] is not first.pool and streams[-1] == "the current one" and gc.isenabled()
    second.replay()
    assert captures[3] == {"replay": True}


def test_memory_that_graphs_leave_too_little_of_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter("memory")
    graphed = Graphed(counter, CPU, "on", state=lambda: [counter.total], name="counting")
    for call in range(5):  # as it is, recorded, compared (twice); then replayed
        graphed(torch.full((4,), 1.0 + call))
    assert graphed.record and counter.calls == 4
    counter.calls += 1
    counter.total = counter.total[:1]
    assert float(graphed(torch.ones(1))) == 16  # from the state before, not from where memory ended
    assert graphed.record is None and not graphed.entries
    assert [record.message for record in caplog.records] == [
        "CUDA graphs: counting leaves too little memory as a graph; it does without them, as with `cuda_graphs=off`"
    ]


def test_modes() -> None:
    assert graphs.wanted("auto", CPU) and graphs.wanted("on", CPU) and not graphs.wanted("off", CPU)
    assert not graphs.wanted("auto", CPU, processes=2) and not graphs.wanted("auto", torch.device("meta"))
    with pytest.raises(FaceganError, match="`cuda_graphs` is on, but needs one process on a CUDA device, and this run has 2 processes"):
        graphs.wanted("on", CPU, processes=2)
    with pytest.raises(FaceganError, match="and this run has device meta"):
        graphs.wanted("on", torch.device("meta"))
    with pytest.raises(FaceganError, match="`cuda_graphs` is 'yes': expected one of auto, on, off"):
        graphs.wanted("yes", CPU)


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: x.sum().item(), lambda x: float(x.sum()), lambda x: int(x.sum()), lambda x: x.tolist(), lambda x: x.numpy(),
        lambda x: x.cpu(), lambda x: x if x.sum() > 0 else -x, lambda x: x.nonzero(), lambda x: x[x > 0],
        lambda x: torch.where(x > 0), lambda x: x.masked_select(x > 0), lambda x: torch.equal(x, x), lambda x: x.unique(),
        lambda x: x.index_put((x > 0,), torch.zeros(())), lambda x: torch.tensor([1.0]), lambda x: x.new_tensor([1.0]),
        lambda x: torch.from_numpy(np.ones(3)), lambda x: torch.linalg.inv(x.outer(x) + torch.eye(4)), lambda x: torch.rand(3),
        lambda x: torch.nn.functional.dropout(x), lambda x: x.normal_(), lambda x: torch.randperm(4), lambda x: x.allclose(x),
        lambda x: 1.0 in x, lambda x: list(range(x.argmax())), lambda x: x.repeat_interleave(x.long()),
    ],
)  # fmt: skip
def test_what_the_host_takes_part_in_is_refused(reads: Callable[[torch.Tensor], Any]) -> None:
    x = torch.arange(4.0)
    with pytest.raises(HostRead):
        Tape(lambda: reads(x))


def test_a_tape_is_the_training_step_of_its_operators() -> None:
    """Forward, backward, second order, Adam: everything that a step is made of, from other numbers in the same memory."""
    from facegan.training.optimizer import adam

    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer, Callable]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(12, 1))
        optimizer = adam(network.parameters(), 0.01, (0.5, 0.9), CPU)

        def step(x: torch.Tensor) -> torch.Tensor:
            x = x.detach().requires_grad_()
            scores = network(x)
            (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
            loss = scores.square().mean() + gradient.square().sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return network, optimizer, step

    (one, _, plain), (other, optimizer, step) = made(), made()
    changing = lambda: [*other.parameters(), *(value for state in optimizer.state.values() for value in state.values())]  # noqa: E731
    graphed = Graphed(step, CPU, "on", state=changing)
    for call in range(6):
        x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(call))
        assert torch.equal(plain(x), graphed(x))
    assert graphed.record and all(map(torch.equal, one.parameters(), other.parameters()))


# --- trainings

FAST = dict(r1_every=2, log_every=1, snapshot_every=100)
FAST_OF = {"a": dict(**FAST, phase1_epochs=7, phase2_epochs=7, epochs=9), "b": dict(**FAST, phase2_epochs=7), "restore": FAST}
TRAININGS: dict[str, dict[str, Any]] = {
    "thesis": dict(pretrain_epochs=5, r1_gamma=0.1, augment="color,translation", ema_images=50.0, self_augment=True,
                   self_augment_buffer=24),
    "image": dict(merge="image", critic_views=3, critic_gradient_penalty=0.1, ema_images=0.0, mixed_precision="bf16"),
    "regional": dict(discriminators="both", merge="regional", masks="halves", critics="all", blurry_negatives=False, replay=0.25),
    "conditional": dict(recipe="conditional", pretrain_epochs=5, epochs=0, phase2_epochs=0),
    "conditional-regional": dict(conditional=True, discriminators="regional", merge="regional", critic_score_fn="sigmoid", z_shape="2,4,4"),
    "styles": dict(method="b", kimg=0.112, r1_gamma=0.5, ada_kimg=0.05, ada_target=0.0, pl_every=2),
    "fixed": dict(method="b", kimg=0.096, r1_gamma=0.5, augment="fixed", augment_p=0.5, accumulate=2, mixed_precision="bf16",
                  architecture="resnet"),
    "growing": dict(method="b", kimg=0.2, growing=4, grow_kimg=0.08, conditional=True, phase2_epochs=0),
    "stylegan1": dict(method="b", kimg=0.16, growing=8, grow_kimg=0.08, architecture="stylegan1", phase2_epochs=0, augment="none"),
    "concat": dict(method="b", kimg=0.096, noise="concat", phase2_epochs=0, pl_weight=0.0),
    "narrow": dict(method="b", kimg=0.096, preset="narrow", noise="none", d_architecture="orig", share_fakes=True, augment="fixed",
                   conditional=True, phase2_epochs=0),
    "restorer": dict(method="restore", kimg=0.128, r1_gamma=0.5, l1_kimg=0.04, accumulate=2),
}  # fmt: skip


STOPPED = {"thesis": ("phase3-beard", 5), "styles": ("stylegan2", 7)}  # and then resumed: after this step of this stage


def stop_at(patch: pytest.MonkeyPatch, stage: str, step: int) -> None:
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, at: int) -> None:
        timed(self, at)
        if (self.stage.name, at + 1) == (stage, step):
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(loop.StageRun, "_timed_step", stopping)


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(run.glob("stages/*/model.safetensors"))
        for name, tensor in load_file(file).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_by_graphs_is_the_training_without(
    training: str,
    train: Callable[..., Path],
    rows: Callable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit by bit, through every kind of step: with penalties and without, before the switch and after, at every size; stopped or not."""
    replayed: dict[str, int] = {}

    def counted(self: Tape) -> None:
        replayed["steps"] = replayed.get("steps", 0) + 1
        replay(self)

    replay = Tape.replay
    monkeypatch.setattr(Tape, "replay", counted)
    flags = {**FAST_OF[TRAININGS[training].get("method", "a")], **TRAININGS[training]}
    with caplog.at_level(logging.INFO):
        if training in STOPPED:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(loop.Interrupted):
                stop_at(patch, *STOPPED[training])
                train(tmp_path / "run", cuda_graphs="on", **flags)
        graphed = train(tmp_path / "run", cuda_graphs="on", **flags)
    assert not [record for record in caplog.records if "CUDA graphs" in record.message]
    plain = train(cuda_graphs="off", **flags)
    assert rows(graphed) == rows(plain)
    ours, theirs = tensors_of(graphed), tensors_of(plain)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert replayed["steps"] >= 6
