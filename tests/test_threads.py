"""How many threads a command computes with: what is asked for, what a run had before, what others leave free."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from facegan import threads
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.threads import Choice, Usage, choose


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable says anything, nothing was looked at before, and four processors may be used."""
    for name in ("OMP_NUM_THREADS", threads.VARIABLE, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "processors", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_since", None)
    monkeypatch.setattr(threads, "_settled", 0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """used(others, own, seconds): what is used of the processors between two looks."""

    def between(others: float, own: float = 0.0, seconds: float = 10.0) -> None:
        looks = iter([Usage(100.0, 50.0, 7.0), Usage(100.0 + seconds, 50.0 + (others + own) * seconds, 7.0 + own * seconds)])
        monkeypatch.setattr(Usage, "now", classmethod(lambda _: next(looks)))
        monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: 100.0 + seconds, sleep=lambda _: None))

    return between


@pytest.mark.parametrize(("others", "own", "most", "expected"), [
    (0.0, 0.0, 4, 4), (0.02, 1.0, 4, 4), (0.4, 0.5, 4, 4), (0.6, 0.0, 4, 3), (1.0, 1.0, 4, 3), (2.0, 0.0, 4, 2), (3.9, 0.1, 4, 1),
    (4.0, 0.0, 4, 1), (1.0, 0.0, 2, 2), (3.0, 0.0, 2, 1),
])  # fmt: skip
def test_auto_leaves_others_their_processors(used: Callable, others: float, own: float, most: int, expected: int) -> None:
    used(others, own)
    torch.set_num_threads(most)
    assert choose() == Choice(expected, f"others use {others:.1f} of 4 processors")


@pytest.mark.parametrize(("others", "decoders", "expected"), [(0.0, 1, 3), (1.0, 2, 1), (0.0, 4, 1), (0.4, 1, 3)])
def test_auto_leaves_its_own_decoders_theirs(used: Callable, others: float, decoders: int, expected: int) -> None:
    used(others)
    torch.set_num_threads(4)
    assert choose(decoders=decoders) == Choice(expected, f"others use {others:.1f} of 4 processors, {decoders} for decoding")


def test_processes_with_decoders_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for together, decoders, each in (("2", 1, 1), ("2", 0, 2), ("4", 1, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", together)
        assert choose(decoders=decoders).count == each


def test_what_goes_first(used: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    used(3.0)
    torch.set_num_threads(4)
    assert choose(kept=2) == Choice(2, "as before, so that the run stays the same bit for bit")
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert choose(kept=2) == Choice(
        3, "as FACEGAN_THREADS says, not 2 as before: the last bits may differ from those of an undisturbed run"
    )
    assert choose(kept=3).reason == "as FACEGAN_THREADS says"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose() == Choice(4, "as OMP_NUM_THREADS says")
    assert choose("1") == Choice(1, "as `threads` says")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv(threads.VARIABLE, "many")
    with pytest.raises(FaceganError, match="FACEGAN_THREADS is 'many': expected auto, or a number from 1 to 1024"):
        choose()


def test_processes_of_one_training_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for together, each in (("2", 2), ("3", 1), ("8", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", together)
        assert choose() == Choice(each, f"4 processors for {together} processes")


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "", "two", "1025", "٣", "9" * 5000])
def test_other_numbers_are_refused(asked: str) -> None:
    with pytest.raises(FaceganError, match="`threads` is .*: expected auto, or a number from 1 to 1024") as caught:
        threads.check_threads(asked)
    assert len(str(caught.value)) < 120


def test_usage_is_that_of_the_allowed_processors_without_what_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [SimpleNamespace(user=10.0, nice=100.0, system=2.0, idle=9.0, iowait=5.0, irq=0.25, softirq=0.5, steal=1.0)] * 5
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: times if percpu else None)
    assert Usage.now().busy == 4 * 13.75
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [SimpleNamespace(user=1.0, nice=5.0, system=2.0, idle=3.0)] * 5)  # macOS
    assert Usage.now().busy == 4 * 3.0
    mine = os.times()
    assert mine.user <= Usage.now().own <= sum(os.times()[:4])


def test_a_command_says_so_once_and_only_where_it_changes_something(used: Callable, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    torch.set_num_threads(4)
    threads.settle()  # nobody has begun
    assert torch.get_num_threads() == 4
    used(2.0)
    threads.begin()
    threads.settle()
    threads.settle()
    assert torch.get_num_threads() == 2
    assert [record.getMessage() for record in caplog.records] == ["2 threads: others use 2.0 of 4 processors"]


def test_what_was_busy_once_is_not_given_up_for_good(used: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    used(3.0)
    threads.begin()
    threads.settle()
    assert torch.get_num_threads() == 1
    looks = iter([Usage(200.0, 100.0, 9.0), Usage(210.0, 100.5, 9.0)])
    monkeypatch.setattr(Usage, "now", classmethod(lambda _: next(looks)))
    threads.begin()
    assert choose().count == 4


SMALL = ["--data", "synthetic", "--num", "200", "--resolution", "16", "--width", "0.25", "--batch", "16", "--minimum-images", "4",
         "--recipe", "plain", "--images-per-epoch", "48", "--phase1-epochs", "2", "--phase2-epochs", "0", "--epochs", "1",
         "--snapshot-every", "2"]  # fmt: skip


def test_a_run_keeps_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from facegan.checkpoints.run import RunFolder
    from facegan.training import loop

    command = ["train", "--method", "a", *SMALL, "--device", "cpu", "--out", str(tmp_path / "run")]
    free, stop = [Choice(1, "one is free")], [3]
    monkeypatch.setattr(threads, "free", lambda most, decoders: free[0])
    monkeypatch.setattr(threads, "processors", lambda: {0, 1})
    seen: list[int] = []

    class Stops(loop.StageRun):
        def _timed_step(self, step: int) -> None:
            seen.append(torch.get_num_threads())
            stop[0] -= 1
            if not stop[0]:
                raise FaceganError("stopped here")
            super()._timed_step(step)

    monkeypatch.setattr(loop, "StageRun", Stops)
    torch.set_num_threads(2)
    caplog.set_level(logging.INFO)
    assert main(command) == 2
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["threads"] == 1
    assert record["config"]["threads"] == "auto"
    assert RunFolder(tmp_path / "run").threads() == 1
    free[0] = Choice(2, "two are free")
    assert main(command) == 0
    assert {*seen} == {1}
    said = [record.getMessage() for record in caplog.records if "thread(s)" in record.getMessage()]
    assert said[0].endswith("1 thread(s): one is free")
    assert said[1].endswith("1 thread(s): as before, so that the run stays the same bit for bit")
    (tmp_path / "run/config.json").write_text(json.dumps({name: value for name, value in record.items() if name != "threads"}))
    assert RunFolder(tmp_path / "run").threads() is None  # of a run of an older version


def test_training_leaves_the_threads_of_whoever_called_it_as_they_were(tmp_path: Path) -> None:
    import facegan

    torch.set_num_threads(2)
    facegan.train("synthetic", method="a", out=tmp_path / "run", threads=1, num=200, resolution=16, width=0.25, batch=16, minimum_images=4,
                  recipe="plain", images_per_epoch=16, phase1_epochs=1, phase2_epochs=0, epochs=0, device="cpu")  # fmt: skip
    assert torch.get_num_threads() == 2
    assert json.loads((tmp_path / "run/config.json").read_text())["threads"] == 1
