"""What a launcher promised against what it started, folders made alike, and processes that end together, each with a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from facegan import launchers
from facegan.checkpoints import mirror
from facegan.cli import parser as command_line
from facegan.errors import FaceganError
from facegan.methods import METHODS, configured
from facegan.training.peers import Peers

ROOT = Path(__file__).parents[2]
LAUNCH = ["python", "/bin/accelerate", "launch", "--num_processes", "4", "train.py", "--num", "9"]
ALONE = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "x"}


@pytest.mark.parametrize(
    ("environment", "launcher", "asked"),
    [
        ({}, [], 1),
        ({"MASTER_ADDR": "10.0.0.1"}, LAUNCH, 1),  # someone's own, without a launcher
        (ALONE, LAUNCH, 4),
        (ALONE, ["accelerate-launch", "--num-machines=3", "train.py"], 3),
        (ALONE, ["accelerate-launch", "--config_file", "x.yaml", "train.py"], 2),
        (TORCHRUN, [], 4),
        ({**TORCHRUN, **ALONE}, LAUNCH, 4),
        ({"SLURM_STEP_NUM_TASKS": "8"}, [], 8),
        ({"SLURM_STEP_NUM_TASKS": "2", **TORCHRUN}, [], 4),  # one torchrun a node, which know of each other
        ({"SLURM_STEP_NUM_TASKS": "2", **TORCHRUN, "GROUP_WORLD_SIZE": "1", "WORLD_SIZE": "2"}, [], 4),  # and two that do not
        ({"OMPI_COMM_WORLD_SIZE": "2"}, [], 2),
        ({"WORLD_SIZE": "many"}, [], 1),
    ],
)
def test_what_a_launcher_promises(environment: dict[str, str], launcher: Sequence[str], asked: int) -> None:
    assert launchers.asked_for(environment, launcher)[0] == asked
    running = int(environment["WORLD_SIZE"]) if environment.get("WORLD_SIZE", "").isdecimal() else 1
    if asked > running:
        with pytest.raises(FaceganError, match=f"asked for.*{asked}|{asked} processes were asked for"):
            launchers.check_started(running, environment, launcher)
    else:
        assert launchers.check_started(running, environment, launcher) == asked


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, {}, "--mixed_precision bf16 .*`mixed_precision=bf16`"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, {"mixed_precision": "bf16"}, ""),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {"mixed_precision": "bf16"}, "--mixed_precision fp16"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}, {"mixed_precision": "bf16"}, ""),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, {}, "--dynamo_backend inductor.*--compile"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, {"compile": True}, ""),
        ({"ACCELERATE_DYNAMO_BACKEND": "EAGER"}, {"compile": True}, "--dynamo_backend eager"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "--use_fsdp"),
        ({"ACCELERATE_USE_DEEPSPEED": "false"}, {}, ""),
    ],
)
def test_what_accelerate_was_told_is_done_or_refused(environment: dict[str, str], options: dict, words: str) -> None:
    config = configured(out="runs/x", **options)
    if words:
        with pytest.raises(FaceganError, match=words):
            launchers.check_wishes(config, environment)
    else:
        launchers.check_wishes(config, environment)


@pytest.mark.parametrize("method", METHODS)
def test_no_flag_of_a_training_is_ambiguous_to_torchrun(method: str) -> None:
    """Without `--` before train.py, torchrun takes abbreviations of its own options out of what follows."""
    from torch.distributed.run import get_args_parser

    theirs = [option for action in get_args_parser()._actions for option in action.option_strings]
    train = command_line(["train", "--method", method])._subparsers._group_actions[0].choices["train"]  # type: ignore[union-attr]
    for action in train._actions:
        clear = [flag for flag in action.option_strings if len([each for each in theirs if each.startswith(flag)]) < 2]
        assert clear, f"{action.option_strings}: torchrun calls it ambiguous, and it has no other name"


# --- folders


def make_run(root: Path, states: dict[str, bytes], **config: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    record = {"makes": "generator", "config": {"seed": 1, "lr": 0.1, **config}, "data_fingerprint": "f"}
    (root / "config.json").write_text(json.dumps(record))
    for name, content in states.items():
        (root / name).mkdir(parents=True)
        (root / name / "model.safetensors").write_bytes(content)
        (root / name / "state.json").write_text("{}")
    return root


def copied(source: Path, target: Path) -> list[str]:
    """What `SharedFolder` does, without a wire."""
    first, ours = mirror.inventory(source), mirror.inventory(target)
    mirror.refuse_ahead(first, ours, target, "node b")
    mirror.remove_others(first, ours, target)
    needs = mirror.lacking(first, ours)
    for name in needs:
        mirror.write_part(target, name, first.parts[name], lambda inner, _, name=name: [(source / name / inner).read_bytes()])  # type: ignore[misc]
    return needs


def files(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): sha256(file.read_bytes()).hexdigest() for file in root.rglob("*") if file.is_file()}


def test_a_folder_is_made_like_another(tmp_path: Path) -> None:
    source = make_run(tmp_path / "a", {"stages/phase1": b"1" * 999, "checkpoints/phase3-x-0000020": b"20"})
    (source / "metrics.jsonl").write_text("{}\n")
    target = tmp_path / "b"
    assert len(copied(source, target)) == 4 and files(target) == files(source)
    assert copied(source, target) == []
    (target / "stages/phase1/model.safetensors").write_bytes(b"2" * 999)  # as long, but damaged
    (target / "metrics.jsonl").write_text("{}\n{}\n")
    make_run(target, {"checkpoints/phase3-x-0000010": b"10"})  # older: process 0 has removed it
    make_run(target, {"checkpoints/phase1-0000500": b"5"})  # of a stage that has ended
    assert sorted(copied(source, target)) == ["metrics.jsonl", "stages/phase1"]
    assert files(target) == files(source)


def test_tensorboard_and_hidden_files_stay_where_they_are(tmp_path: Path) -> None:
    source = make_run(tmp_path / "a", {})
    (source / "tensorboard/x").mkdir(parents=True)
    (source / "tensorboard/x/events").write_text("e")
    (source / ".lock").write_text("1")
    assert list(mirror.inventory(source).parts) == ["config.json"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (dict(states={"stages/p": b""}), dict(states={"stages/p": b"", "stages/q": b""}), "further .q, finished"),
        (dict(states={"checkpoints/p-0000010": b""}), dict(states={"checkpoints/p-0000020": b""}), "further .p at step 20"),
        (dict(states={}), dict(states={"checkpoints/p-0000020": b""}), "further .p at step 20"),
        (dict(states={"stages/p": b""}), dict(states={"stages/p": b""}, lr=0.2), "another run"),
        (None, dict(states={"stages/p": b""}), "holds a run, and that of process 0 does not"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path: Path, first: dict | None, second: dict, words: str) -> None:
    if first is not None:
        make_run(tmp_path / "a", **first)
    target = make_run(tmp_path / "b", **second)
    before = files(target)
    with pytest.raises(FaceganError, match=f"node b.*{words}"):
        copied(tmp_path / "a", target)
    assert files(target) == before


def test_other_files_are_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.tex").write_text("x")
    with pytest.raises(FaceganError, match="node b holds other files"):
        copied(make_run(tmp_path / "a", {}), tmp_path / "b")


def test_what_arrives_damaged_is_not_kept(tmp_path: Path) -> None:
    source = make_run(tmp_path / "a", {"stages/p": b"right"})
    part = mirror.inventory(source).parts["stages/p"]
    with pytest.raises(FaceganError, match="damaged"):
        mirror.write_part(tmp_path / "b", "stages/p", part, lambda *_: [b"wrong"])
    assert not (tmp_path / "b/stages/p").exists() and not list((tmp_path / "b/stages").iterdir())


# --- processes

PROCESS = """
import os, sys, time
import torch
from datetime import timedelta
from facegan.errors import FaceganError
from facegan.training.peers import Peers, together
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.distributed.init_process_group("gloo")
class accelerator: process_index, num_processes, is_local_main_process = rank, world, rank == 0
try:
    with together(accelerator, float(os.environ["TIMEOUT"])) as peers:
        print("ready", flush=True)
        exec(sys.argv[1])
except FaceganError as error:
    print("facegan:", error, file=sys.stderr)
    sys.exit(2)
"""
COLLECTIVE = "\nwhile True: torch.distributed.all_reduce(torch.zeros(9)); time.sleep(0.01)"


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """start(code, world): processes that run a text beside each other."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, world: int = 2, timeout: float = 4.0) -> list[subprocess.Popen[str]]:
        for rank in range(world):
            environment = {
                **os.environ, "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "TIMEOUT": str(timeout), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR",
            }  # fmt: skip
            started.append(subprocess.Popen(
                [sys.executable, "-c", PROCESS, code], env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ))  # fmt: skip
        for each in started:
            assert each.stdout and each.stdout.readline() == "ready\n", each.communicate()[1]
        return started

    yield start
    for each in started:
        each.kill()


def endings(processes: Sequence[subprocess.Popen[str]], seconds: float = 15) -> list[tuple[int, str]]:
    """(status, what was said last) of each."""
    until = time.monotonic() + seconds
    said = [each.communicate(timeout=max(0.1, until - time.monotonic()))[1] for each in processes]
    assert not any("Traceback" in text for text in said), said
    return [(each.returncode, text.strip()) for each, text in zip(processes, said, strict=True)]


def test_all_end_with_the_sentence_of_the_one_that_fails(start: Callable) -> None:
    one, other, third = endings(start("if rank == 1: raise FaceganError('the disk is full: make room')" + COLLECTIVE, world=3))
    assert other == (2, "facegan: the disk is full: make room")
    for status, said in (one, third):
        assert status == 2 and said.startswith("facegan: process 1 on ") and said.endswith("has ended: the disk is full: make room")
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("waits", ["collective", "agreement", "work"])
def test_a_process_that_stands_still_is_given_up(start: Callable, waits: str) -> None:
    code = {"collective": COLLECTIVE, "agreement": "time.sleep(3600) if rank else peers.wait()", "work": "time.sleep(3600)"}[waits]
    processes = start(code, timeout=3.0)
    time.sleep(1)
    processes[1].send_signal(signal.SIGSTOP)
    ((status, said),) = endings(processes[:1])
    assert status == 2 and len(said.splitlines()) == 1
    assert said.startswith("facegan: process 1 on ") and "has given no sign of life for 3 seconds (`peer_timeout`)" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_is_named(start: Callable, rank: int) -> None:
    processes = start(COLLECTIVE)
    time.sleep(1)
    processes[rank].kill()
    ((status, said),) = endings([processes[1 - rank]])
    assert status == 2 and len(said.splitlines()) == 1
    # What process 0 serves to all is lost with it: by that, or by its own silence, whichever is noticed first.
    named = ("facegan: process 1 on ",) if rank else ("facegan: the machine of process 0 ", "facegan: process 0 on ")
    assert said.startswith(named) and "has ended" in said


def test_a_process_that_is_busy_is_waited_for(start: Callable) -> None:
    """Longer than the time-out: at work, in the interpreter or out of it, and then at its end, when the other has left."""
    code = "end = time.monotonic() + 3\nwhile rank and time.monotonic() < end: sum(range(9999))\npeers.wait(); time.sleep(3 * rank)"
    assert [status for status, _ in endings(start(code, timeout=2.0), 25)] == [0, 0]


def test_all_refuse_what_one_has_otherwise(start: Callable) -> None:
    code = "peers.agree(str(rank == 2), 'has other data than process 0')"
    for status, said in endings(start(code, world=3)):
        assert status == 2 and said.startswith("facegan: process 2 on ") and said.endswith("has other data than process 0")


def test_one_process_has_no_peers() -> None:
    peers = Peers()
    peers.start()
    peers.agree("x", "differs")
    with peers.local_main_first():
        assert peers.gather("mine") == ["mine"]
    peers.done()
    assert peers.ended_by(ValueError("x")) is None
