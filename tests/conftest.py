"""Shared by all tests: tolerances and guards of the ops and kernels; a small data set whose truth is known, and one call that trains."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Without a GPU, Triton's kernels run in its interpreter. Triton reads this as it is imported, which the compiler of PyTorch does
# in whichever test comes first, so it is set before all of them.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# Commands that tests call, here or in processes, compute with as many threads as the tests themselves: else bits would differ.
os.environ.setdefault("FACEGAN_THREADS", str(torch.get_num_threads()))

from facegan.config import TrainConfig
from facegan.methods import configured  # noqa: E402

# relative and absolute tolerance per dtype, for values of order one
TOLERANCES = {
    torch.float64: dict(rtol=1e-10, atol=1e-10),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.float16: dict(rtol=4e-3, atol=4e-3),
    torch.bfloat16: dict(rtol=3e-2, atol=3e-2),
}

COLUMNS = (
    "5_o_Clock_Shadow", "Bald", "Blurry", "Eyeglasses", "Goatee", "Male", "Mustache", "No_Beard", "Receding_Hairline",
    "Sideburns", "Smiling", "Wearing_Hat", "Young",
)  # fmt: skip
FACES, SIDE = 240, 16
TINY = dict(resolution=SIDE, batch=8, minimum_images=4, images_per_epoch=8, snapshot_every=3, log_every=2, device="cpu")
TINY_OF = {
    "a": dict(recipe="thesis", width=0.25, phase1_epochs=6, phase2_epochs=6, epochs=6, harvest_every=1),
    "b": dict(kimg=6 * 8 / 1000, width=0.25, phase2_epochs=6, r1_every=2, pl_every=2, ema_kimg=0.05),
    "restore": dict(kimg=6 * 8 / 1000, r1_every=2, ema_kimg=0.05),
}


# the test in which this process lost its CUDA context
LOST = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a lost CUDA context makes of the tests that follow says nothing about them."""
    lost = item.config.stash.get(LOST, None)
    if lost is not None and item.get_closest_marker("gpu"):
        pytest.skip(f"not run: this process lost its CUDA context in {lost}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test on a GPU ends when its kernels have: what they do wrong is its own failure, not that of the next one to wait for them."""
    try:
        result = yield
    finally:
        error = None if LOST in item.config.stash else _wait_for_gpu()
        if error is not None and _wait_for_gpu() is not None:  # an error that stays
            item.config.stash[LOST] = item.nodeid
    if error is not None:
        pytest.fail(f"a kernel that this test launched failed: {error}")
    return result


def _wait_for_gpu() -> Exception | None:
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError as error:  # torch.AcceleratorError is one
        return error
    return None


def draw_truth(random: np.random.Generator) -> dict[str, bool]:
    """Attributes of one person: every combination occurs, often enough for each group that training tells apart."""
    truth = {column: bool(random.random() < 0.08) for column in COLUMNS}
    bald, beard = random.random() < 0.4, random.random() < 0.4
    truth |= {"Bald": bald, "No_Beard": not beard, "Male": bald or beard or random.random() < 0.4}
    truth |= {"Goatee": beard and random.random() < 0.8, "Eyeglasses": bool(random.random() < 0.25)}
    return truth


def draw_face(truth: dict[str, bool], random: np.random.Generator) -> np.ndarray:
    """uint8 [16, 16, 3]: noise on grey; baldness brightens the top quarter, a beard darkens the bottom quarter."""
    face = random.normal(128, 20, (SIDE, SIDE, 3))
    face[: SIDE // 4] += 80 * truth["Bald"]
    face[-SIDE // 4 :] -= 80 * (not truth["No_Beard"])
    face[6:8] -= 60 * truth["Eyeglasses"]
    return face.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in CelebA's layout; files 2i and 2i + 1 show the same person."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "img_align_celeba").mkdir()
    random, lines, people = np.random.default_rng(7), [str(FACES), " ".join(COLUMNS) + " "], []
    truths = [draw_truth(random) for _ in range(FACES // 2)]
    for index in range(FACES):
        truth, name = truths[index // 2], f"{index:06d}.png"
        Image.fromarray(draw_face(truth, random)).save(folder / "img_align_celeba" / name)
        lines.append(name + " " + " ".join(" 1" if truth[column] else "-1" for column in COLUMNS))
        people.append(f"{name} {index // 2}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def cpu_unless_asked() -> Iterator[None]:
    """`--device auto` is the CPU in the tests, where alone bits are promised; tests of a GPU ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facegan.devices.gpu_here", lambda: False)
        yield


@pytest.fixture(scope="session")
def configure(faces: Path, request: pytest.FixtureRequest) -> Callable[..., TrainConfig]:
    """configure(out=..., **flags): the smallest configuration that goes through every phase."""

    def configure(**flags: object) -> TrainConfig:
        method = str(flags.get("method", "a"))
        if method == "restore" and not {"prior", "init_from"} & flags.keys():
            flags["prior"] = request.getfixturevalue("prior")
        return configured(**{**TINY, **TINY_OF[method], "data": str(faces), **flags})

    return configure


@pytest.fixture(scope="session")
def prior(train: Callable[..., Path]) -> str:
    """A run of Method B that a restorer can be built on; it has learned from the same faces."""
    return str(train(method="b", noise="concat", preset="tiny", kimg=0.024, phase2_epochs=0))


@pytest.fixture(scope="session")
def train(configure: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """train(out=None, **flags): a few steps of every phase in this process; returns the run's folder."""
    from facegan.session import run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def train(out: Path | None = None, **flags: object) -> Path:
        return run(configure(out=str(out or tmp_path_factory.mktemp("run") / "run"), **flags))

    yield train
    torch.set_num_threads(threads)


@pytest.fixture
def port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs of a user, for seconds: `facegan.train` makes small networks and takes few steps where nothing else is asked for, and
    judges learn as little."""
    import facegan
    from facegan.evaluation.judge import judge

    short = dict(phase1_epochs=4, phase2_epochs=4, epochs=4, pretrain_epochs=0, harvest_every=1, width=0.25)
    monkeypatch.setattr(facegan, "train", partial(facegan.train, **{**TINY, **short}), raising=False)
    monkeypatch.setattr(judge, "JudgeConfig", partial(judge.JudgeConfig, steps=6, batch=20, width=4, checks=1))
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], list[dict]]:
    """The rows of a run's metrics.jsonl without those that tell time."""
    clocks = {"seconds", "images_per_second", "data_wait"}

    def rows(run: Path) -> list[dict]:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key not in clocks} for line in lines]

    return rows


@pytest.fixture(scope="session")
def tolerance() -> Callable[[torch.dtype], dict[str, float]]:
    return TOLERANCES.__getitem__


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small only lose by threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory is NaN, so an element that nobody wrote shows."""
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))


def _poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: object, **kwargs: object) -> torch.Tensor:
        fresh = allocate(*args, **kwargs)
        real = not isinstance(fresh, torch._subclasses.FakeTensor) and not torch.compiler.is_compiling()
        return fresh.fill_(float("nan")) if real and fresh.is_floating_point() else fresh

    return poisoned
