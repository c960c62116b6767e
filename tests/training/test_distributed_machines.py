"""Two machines in network namespaces, with a data folder and a run folder each: the run of one machine to the bit, and no hanging.

The longer form is `python tests/campaigns/machines.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import ENDS_WITHIN, ROOT, Machine, Training, two_machines, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(unavailable()), reason=unavailable())]
FLAGS = {
    "a": dict(batch=16, images_per_epoch=16, phase1_epochs=6, phase2_epochs=4, epochs=8, snapshot_every=2, log_every=1),
    "b": dict(method="b", batch=16, phase2_epochs=4, kimg=8 * 16 / 1000, snapshot_every=2, log_every=1),
}
STATES = {"a": "phase3-beard-0000004", "b": "stylegan2-0000004"}
# Several trainings in one process, as importing PyTorch takes longer; each (port, configuration).
WORKER = """
import json, os, sys, torch
from accelerate.state import AcceleratorState
from facegan.cli import explained
from facegan.methods import configured
from facegan.session import run
torch.set_num_threads(1)
for port, config in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = str(port)
    try:
        run(configured(**config))
    except Exception as error:
        print("facegan:", *(explained(error) or ["Traceback " + repr(error)])[:1], file=sys.stderr)
        sys.exit(2)
    AcceleratorState._reset_state(True)
"""


@pytest.fixture(scope="module")
def alone(configure: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes on one machine, which share data and folder."""
    folder = tmp_path_factory.mktemp("alone")
    task = [(29810 + i, configure(out=str(folder / name), **flags).to_json()) for i, (name, flags) in enumerate(FLAGS.items())]
    started = []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        started.append(subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(task)], env=environment, cwd=ROOT))
    assert [each.wait(timeout=240) for each in started] == [0, 0]
    return folder


@pytest.fixture
def pair(tmp_path: Path, faces: Path) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(tmp_path) as machines:
        for each in machines:
            shutil.copytree(faces, each.folder / "data")
        yield machines


@pytest.fixture
def launch(pair: tuple[Machine, Machine], configure: Callable) -> Callable[..., Training]:
    """launch(*methods, **flags): train them one after the other on both machines."""
    ports = iter(range(29830, 29900, 4))

    def launch(*methods: str, **more: object) -> Training:
        first = next(ports)
        flags = []
        for machine in pair:
            places = {"data": str(machine.folder / "data")}
            configs = [configure(out=str(machine.folder / name), **{**FLAGS[name], **places, **more}).to_json() for name in methods]
            flags.append([json.dumps(list(enumerate(configs, first)))])
        return Training(pair, flags, first, WORKER)

    return launch


def same(run: Path, other: Path, rows: Callable) -> None:
    """Weights and rows, byte for byte."""
    files = sorted(file.relative_to(other) for file in [*other.glob("stages/*/model.safetensors"), *other.glob("ids/*.txt")])
    assert files and all((run / file).read_bytes() == (other / file).read_bytes() for file in files)
    assert rows(run) == rows(other)


def test_two_machines_train_as_one(alone: Path, pair: tuple[Machine, Machine], launch: Callable[..., Training], rows: Callable) -> None:
    assert (training := launch(*FLAGS)).wait(240) == [0, 0], training.said()
    for machine in pair:
        for method in FLAGS:
            same(machine.folder / method, alone / method, rows)
    assert "2 process(es) on 2 machine(s)" not in training.said(1) and "Traceback" not in training.said()


@pytest.mark.parametrize(("method", "machine", "number"), [("a", 1, signal.SIGKILL), ("b", 0, signal.SIGSTOP), ("b", 1, signal.SIGKILL)])
def test_a_run_goes_on_after_a_machine_is_lost(
    method: str, machine: int, number: signal.Signals, alone: Path, pair: tuple[Machine, Machine], launch: Callable[..., Training],
    rows: Callable,
) -> None:  # fmt: skip
    training = launch(method, peer_timeout=5.0)
    training.until(pair[0].folder / method / "checkpoints" / STATES[method])
    pair[machine].signal(number)
    lost = time.monotonic()
    assert training.wait(ENDS_WITHIN, [1 - machine]) == [2] and time.monotonic() - lost < ENDS_WITHIN
    said = training.said(1 - machine)
    last = said.rstrip().splitlines()[-1]
    assert "Traceback" not in said and last.startswith("facegan: ") and "process" in last and "run the same command again" in last
    for each in (signal.SIGKILL, signal.SIGCONT):
        pair[machine].signal(each)
    training.wait(10)
    assert (again := launch(method, peer_timeout=60.0)).wait(240) == [0, 0], again.said()
    for each in pair:
        same(each.folder / method, alone / method, rows)


@pytest.mark.parametrize("wrong", ["missing", "other"])
def test_all_refuse_where_one_has_no_data_or_other_data(wrong: str, pair: tuple[Machine, Machine], launch: Callable[..., Training]) -> None:
    shutil.rmtree(pair[1].folder / "data/img_align_celeba")
    if wrong == "other":
        shutil.copytree(pair[0].folder / "data/img_align_celeba", pair[1].folder / "data/img_align_celeba")
        (pair[1].folder / "data/img_align_celeba/000007.png").unlink()
    training = launch("a")
    assert training.wait(120) == [2, 2]
    for rank in range(2):
        last = [line for line in training.said(rank).splitlines() if line.startswith("facegan: ")][-1]
        assert ("contains no image" if wrong == "missing" else "has other images or labels") in last
        assert "Traceback" not in training.said(rank) and (rank or "process 1 on worker1" in last)
        assert not (pair[rank].folder / "a/config.json").exists()
