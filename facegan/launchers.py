"""What a launcher (torchrun, accelerate launch, srun, mpirun) was asked for, held against what it started and what is asked for here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from facegan.config import TrainConfig
from facegan.errors import FaceganError

WORKS = "start it as `torchrun --nproc_per_node N -- train.py ...` (docs/distributed.md)"
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_PLUGINS = {"DEEPSPEED": "--use_deepspeed", "FSDP": "--use_fsdp", "MEGATRON_LM": "--use_megatron_lm"}


def asked_for(environment: Mapping[str, str] = os.environ, launcher: Sequence[str] | None = None) -> tuple[int, str]:
    """How many processes the launcher promises, and how that is known; (1, "") without one.

    `accelerate launch --num_processes N` leaves only MASTER_ADDR behind where it starts the script once, which is two at the least; the
    number itself stands in its command line (`launcher`: default, that of this process's parent).
    """
    found = {name: _count(environment, name) for name in _COUNTS}
    nodes, tasks = _count(environment, "GROUP_WORLD_SIZE"), found["SLURM_STEP_NUM_TASKS"]
    if nodes:  # of torchrun, which srun starts once a node; one that knows of none but itself is one of `tasks` trainings
        found["SLURM_STEP_NUM_TASKS"] = tasks * _count(environment, "LOCAL_WORLD_SIZE") if tasks > nodes else 0
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        words = _command_of(os.getppid()) if launcher is None else launcher
        found["accelerate launch"] = max(2, _number(words, "num_processes"), _number(words, "num_machines"))
    name = max(found, key=lambda each: found[each])
    return (found[name], name) if found[name] > 1 else (1, "")


def check_started(running: int, environment: Mapping[str, str] = os.environ, launcher: Sequence[str] | None = None) -> int:
    """How many processes were asked for. Raises FaceganError where fewer run together: each would train alone, into one folder."""
    asked, how = asked_for(environment, launcher)
    if asked <= running:
        return asked
    if how == "accelerate launch":
        raise FaceganError(
            f"accelerate launch was asked for {asked} processes or more and started this one by itself, as it does on a machine without "
            f"a GPU: {WORKS}, or as `accelerate launch --multi_gpu --num_processes N train.py ...`"
        )
    raise FaceganError(
        f"{asked} processes were asked for (by {how}) and {running} run together, so that each would train by itself into one `out`: "
        f"{WORKS}"
    )


def check_environment(config: TrainConfig, environment: Mapping[str, str] = os.environ) -> None:
    """What can be refused before PyTorch is there: `check_wishes`, and `check_started` of what the launcher says that it started."""
    check_wishes(config, environment)
    check_started(max(1, *(_count(environment, name) for name in _COUNTS if not name.startswith("SLURM"))), environment)


def check_wishes(config: TrainConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what `accelerate launch` was told and this training would not do."""
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in ("no", "bf16"):
        raise FaceganError(f"accelerate launch was told --mixed_precision {precision}: expected no, or bf16 with `mixed_precision=bf16`")
    if precision == "bf16" and config.mixed_precision != "bf16":
        raise FaceganError(
            "accelerate launch was told --mixed_precision bf16 and the training is not: give the training `mixed_precision=bf16`, "
            "which is enough alone"
        )
    dynamo = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if dynamo not in ("no", "inductor") or (dynamo == "inductor" and not config.compile):
        raise FaceganError(
            f"accelerate launch was told --dynamo_backend {dynamo}, which would compile passes that second derivatives are taken of: leave "
            "it out, and give the training --compile, which compiles the others"
        )
    for name, flag in _PLUGINS.items():
        if environment.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise FaceganError(f"accelerate launch was told {flag}, which this training has no use for: leave it out")


def _command_of(process: int) -> list[str]:
    """Its words; none where the system does not say."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _count(environment: Mapping[str, str], name: str) -> int:
    """The number that a variable holds; 0 where it is not there."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def _number(words: Sequence[str], name: str) -> int:
    """The value of `--name N` or `--name=N`, written with _ or -; 0 where it is not there."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        if flag.lstrip("-").replace("-", "_") == name and (value or following).isdecimal():
            return int(value or following)
    return 0
