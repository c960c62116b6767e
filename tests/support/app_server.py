"""`facegan app` as a process of its own, for the tests in a browser and for benchmarks/app.py."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")  # as Debian, others and Google call it
SANDBOX = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # Chromium's does not work for root
PERSON = 3  # of four that are drawn
AXE = "npm pack axe-core@4, unpack it and set FACEGAN_AXE=.../package/axe.min.js"


@dataclass(frozen=True)
class Served:
    """A page that answers: its address, the process behind it, what it writes, and the seconds from its start to the first answer."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    seconds: float

    def resident(self) -> float:
        """MiB that the process holds."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024

    def busy(self) -> float:
        """Seconds of CPU that the process has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(words: Sequence[str], log: Path, limit: float = 120.0, threads: int = 1) -> Iterator[Served]:
    """Start `facegan app WORDS` on a free port, wait until it answers, and end it afterwards.

    One thread, unless told otherwise: PyTorch's wait for each other by spinning, which takes the cores that the browser needs.
    """
    port = free_port()
    command = [sys.executable, "-m", "facegan.cli", "app", *words, "--port", str(port), "--device", "cpu"]
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": str(threads),
        "NO_PROXY": "127.0.0.1",
    }
    start = time.perf_counter()
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=log.parent)
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - start > limit:
                raise RuntimeError(f"facegan app did not answer (exit status {process.poll()}):\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield Served(f"http://127.0.0.1:{port}/", process, log, time.perf_counter() - start)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Whether the page is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def chromium() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


def drawn_photo(folder: Path) -> Path:
    """A drawn person in front of a drawn wall, 320 x 240: no photograph of anybody."""
    from facegan.data.synthetic.dataset import write_celeba_layout

    write_celeba_layout(folder, 4, 128, 5, workers=1)
    face = Image.open(sorted((folder / "img_align_celeba").iterdir())[PERSON])
    wall = np.linspace((70, 90, 110), (150, 160, 170), 320)[None].repeat(240, 0).astype(np.uint8)
    picture = Image.fromarray(wall)
    ImageDraw.Draw(picture).rectangle((20, 30, 110, 130), fill=(190, 170, 120), outline=(90, 70, 40), width=4)
    picture.paste(face.resize((200, 200)), (60, 20))
    picture.save(folder / "photo.jpg", quality=92)
    return folder / "photo.jpg"
