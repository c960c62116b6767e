"""Seconds to the end of a training's first step, in a fresh process: with empty caches, then with those that the first run filled.

    python -m benchmarks.first_step stylegan2-256 --device cuda --results benchmarks/results

`facegan train` is started as a user starts it, and watched from outside: `config.json` appears in its folder when Python, PyTorch, the
faces and the device are ready, the first row of `metrics.jsonl` when the first step, R1 and path length in it, has ended. A row's
seconds are those between the two, in which networks are made, kernels compiled and algorithms found; what comes before is told beside them.
The faces are decoded before: they are no matter of kernels.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import record, trainings
from benchmarks.children import end, start
from benchmarks.trainings import Training, command_line
from facegan.data.faces import open_faces

POLL = 0.005  # seconds
TAIL = 3000  # characters of a failed training's log


def caches(folder: Path) -> dict[str, str]:
    """The environment in which everything that is compiled or found out is kept in `folder` alone."""
    names = {"FACEGAN_CACHE": "facegan", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor", "CUDA_CACHE_PATH": "cuda"}
    return {variable: str(folder / name) for variable, name in names.items()}


class NoStep(Exception):
    """The training ended before its first step had."""


def launch(training: Training, device: str, out: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds from starting the process to a claimed run folder, and from there to the end of the first step; then it is killed."""
    command = ["-m", "facegan.cli", "train", *command_line(training.values(device, out)), "--log-every", "1"]
    log = out.with_suffix(".log")
    with log.open("w") as handle:
        begun = time.perf_counter()
        process = start(command, handle, environment)
        try:
            claimed = appeared(out / "config.json", process, log)
            stepped = appeared(out / "metrics.jsonl", process, log)
        finally:
            end(process)
    return claimed - begun, stepped - claimed


def appeared(file: Path, process: subprocess.Popen[bytes], log: Path) -> float:
    """When `file` first had content."""
    while not (file.exists() and file.stat().st_size):
        if process.poll() is not None:
            raise NoStep(f"facegan train ended with status {process.returncode}: {log.read_text()[-TAIL:]}")
        time.sleep(POLL)
    return time.perf_counter()


def measure(training: Training, device: str, folder: Path, kept: Path, results: record.Results) -> None:
    """Two runs in `folder`, with the caches in `kept`."""
    shutil.rmtree(kept, ignore_errors=True)
    environment = caches(kept)
    values = training.values(device, folder)
    open_faces(values["data"], training.resolution, num=values["num"], seed=0, cache_dir=environment["FACEGAN_CACHE"])
    case = training.case("first_step")
    for variant in ("cold", "filled"):
        before, seconds = launch(training, device, folder / variant, environment)
        results.add(record.row(case, trainings.serving(device), {"op": [seconds]}, variant=variant, seconds_before=before))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", help="one of `trainings.TRAININGS`")
    parser.add_argument("--device", choices=tuple(trainings.TRAININGS), default="cuda")
    parser.add_argument("--results", type=Path, default=record.FOLDER, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--caches", type=Path, metavar="DIR", help="of the caches, emptied first and left filled; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept, results = arguments.caches or Path(folder, "caches"), record.Results(arguments.results, arguments.device)
        measure(trainings.find(arguments.device, arguments.training), arguments.device, Path(folder), kept, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
