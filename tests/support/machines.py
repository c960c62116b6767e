"""Two machines on one: network namespaces joined by a cable, each with a host name, folders and processes of its own."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENDS_WITHIN = 30.0  # seconds, of all processes once one machine has died


@functools.cache
def unavailable() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "network namespaces need the commands ip and unshare"
    name = f"facegan-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if made.returncode == 0 else f"network namespaces are not allowed here ({made.stderr.strip()})"


class Machine:
    """One of them: a namespace, an address, a folder."""

    def __init__(self, index: int, root: Path) -> None:
        self.index, self.name, self.address = index, f"facegan-{os.getpid()}-{index}", f"10.77.0.{index + 1}"
        self.folder = root / f"machine{index}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = f"fg{os.getpid() % 100000}x{index}"

    def start(self, words: Sequence[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A command on this machine; what it says goes into `log`."""
        inside = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", f'hostname worker{self.index}; exec "$@"', "-", *words]
        shared = {
            "GLOO_SOCKET_IFNAME": self.device, "OMP_NUM_THREADS": "1", "FACEGAN_CACHE": str(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        }  # fmt: skip
        with open(log, "wb") as handle:
            return subprocess.Popen(
                inside,
                stdout=handle,
                stderr=subprocess.STDOUT,
                env={**os.environ, **shared, **environment},
                cwd=ROOT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Everything that runs on this machine, launchers and their children."""
        return [int(each) for each in run("ip", "netns", "pids", self.name).split()]

    def signal(self, number: signal.Signals) -> None:
        """To all of them: SIGKILL is a power cut, SIGSTOP a machine that hangs."""
        for process in self.processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def unplug(self) -> None:
        """Nothing arrives and nothing is refused, as with a cut cable."""
        run("ip", "netns", "exec", self.name, "ip", "link", "set", self.device, "down")


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def two_machines(root: Path) -> Iterator[tuple[Machine, Machine]]:
    """They are gone afterwards, with all that runs on them."""
    pair = Machine(0, root), Machine(1, root)
    try:
        for each in pair:
            run("ip", "netns", "add", each.name)
        run("ip", "link", "add", pair[0].device, "type", "veth", "peer", "name", pair[1].device)
        for each in pair:
            run("ip", "link", "set", each.device, "netns", each.name)
            for words in (f"addr add {each.address}/24 dev {each.device}", f"link set {each.device} up", "link set lo up"):
                run("ip", "netns", "exec", each.name, "ip", *words.split())
        yield pair
    finally:
        for each in pair:
            for number in (signal.SIGKILL, signal.SIGCONT):
                try:
                    each.signal(number)
                except subprocess.CalledProcessError:
                    pass
            subprocess.run(["ip", "netns", "del", each.name], capture_output=True)


class Training:
    """`train.py`, or the text of a `script`, on several machines, one process each, without a launcher."""

    def __init__(self, machines: Sequence[Machine], flags: Sequence[Sequence[str]], port: int, script: str = "") -> None:
        self.logs = [machine.folder / f"log{port}.txt" for machine in machines]
        self.machines, self.processes = machines, list[subprocess.Popen[bytes]]()
        for rank, (machine, words) in enumerate(zip(machines, flags, strict=True)):
            program = ["-c", script] if script else [str(ROOT / "train.py")]
            self.processes.append(machine.start(
                [sys.executable, *program, *words], self.logs[rank], MASTER_ADDR=machines[0].address, MASTER_PORT=str(port),
                WORLD_SIZE=str(len(machines)), RANK=str(rank), LOCAL_RANK="0", LOCAL_WORLD_SIZE="1",
            ))  # fmt: skip

    def until(self, there: Path, seconds: float = 120) -> None:
        """Waits for a file, while all processes run."""
        end = time.monotonic() + seconds
        while not there.exists():
            assert time.monotonic() < end and all(each.poll() is None for each in self.processes), self.said()
            time.sleep(0.02)

    def wait(self, seconds: float, ranks: Sequence[int] = (0, 1)) -> list[int]:
        """Their exit statuses; AssertionError with what they said where one still runs."""
        end = time.monotonic() + seconds
        try:
            return [self.processes[rank].wait(timeout=max(0.0, end - time.monotonic())) for rank in ranks]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} seconds: {self.said()}") from None

    def said(self, rank: int | None = None) -> str:
        """The last lines of one process, or all."""
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in (self.logs if rank is None else [self.logs[rank]]))
