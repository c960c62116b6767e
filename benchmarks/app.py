"""How fast the page of `facegan app` is, how many it serves at once, and whether its memory grows: `python benchmarks/app.py`.

Starts the app with synthetic64 as a process of its own, several times, and asks it as its visitors do: by gradio_client, and in a
headless Chromium where Playwright and one are installed. Medians; the bars are those of docs/app.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import app_server
import torch
from app_server import Served
from gradio_client import Client

from facegan.app import mixes
from facegan.app.networks import Networks
from facegan.app.sessions import Sessions
from facegan.options import App

MIX = dict(row_styles=[], col_styles=[], mode="interpolate", first=4, last=7, weight=0.5, truncation=1)
BARS = {"control": 0.150, "grid": 1.5, "first face": 6.0, "paint": 1.5}  # seconds


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def mix(client: Client, rows: str, cols: str, **changed: Any) -> Any:
    """One mix, as the page asks for it."""
    asked = {"network": "synthetic64", "row_seeds": rows, "col_seeds": cols, **MIX, **changed}
    return client.predict(**asked, api_name="/mix")


def median(times: int, work: Callable[[int], object]) -> float:
    """Seconds of `work`, the median of so many times; the first is not counted."""
    seconds = []
    for i in range(times + 1):
        start = time.perf_counter()
        work(i)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def in_the_server(rows: str, cols: str, times: int, threads: int) -> tuple[float, float]:
    """Seconds, and of them those of the CPU, from a moved control to a written picture: what the page's handler does, without HTTP."""
    torch.set_num_threads(threads)
    networks, sessions = Networks(App(sources=("synthetic64",), device="cpu")), Sessions()
    busy: list[float] = []

    def draw(i: int) -> None:
        start = time.process_time()
        mixes.mix(networks, session, mixes.Asked("synthetic64", rows, (), cols, (), "interpolate", 4, 7, round(0.01 * (i + 1), 2)))
        busy.append(time.process_time() - start)

    try:
        session = sessions.of("benchmark")
        return median(times, draw), statistics.median(busy[1:])
    finally:
        sessions.end()


def control(client: Client, times: int) -> float:
    """The same by HTTP: a slider is moved, the picture is on the visitor's disk."""
    return median(times, lambda i: mix(client, "0", "1", weight=round(0.01 * (i + 1), 2)))


def first_face(folder: Path, times: int, threads: int) -> tuple[float, float]:
    """Seconds, and of them those of the server's CPU, from the start of the command to the first face in the visitor's hands: a process
    each, the first not counted, so that the files of Python and PyTorch are in the memory of the machine."""
    seconds, busy = [], []
    for i in range(times + 1):
        start = time.perf_counter()
        with app_server.served(["synthetic64"], folder / f"start{i}.log", threads=threads) as one:
            Client(one.address, verbose=False, download_files=str(folder)).predict("synthetic64", "0", 1, 0, api_name="/generate")
            seconds.append(time.perf_counter() - start)
            busy.append(one.busy())
    return statistics.median(seconds[1:]), statistics.median(busy[1:])


def first_paint(one: Served, times: int) -> float | None:
    """Until the browser paints something for the first time, by its own clock, with an empty cache."""
    path = app_server.chromium()
    if path is None:
        return None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=app_server.SANDBOX)
        for _ in range(times + 1):
            page = browser.new_context().new_page()
            page.goto(one.address)
            page.wait_for_selector("#generate-run")
            seconds.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            page.close()
        browser.close()
    return statistics.median(seconds[1:])


def visitors(one: Served, count: int, folder: Path) -> tuple[int, float]:
    """So many mix at the same moment: how many get theirs, and the seconds until the last has it."""
    clients = [Client(one.address, verbose=False, download_files=str(folder)) for _ in range(count)]
    ready, served, lock = threading.Barrier(count + 1), [0], threading.Lock()

    def visit(number: int) -> None:
        ready.wait()
        picture = mix(clients[number], str(number), "20-23")[0]
        with lock:
            served[0] += bool(picture)

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return served[0], time.perf_counter() - start


def memory(one: Served, client: Client, times: int) -> tuple[float, float]:
    """MiB of the process after a fifth of so many interactions, and after all."""
    before = 0.0
    for i in range(times):
        if i % 2:
            client.predict("synthetic64", f"{i}-{i + 3}", 1, 0, api_name="/generate")
        else:
            mix(client, f"{i}-{i + 1}", "5-6")
        if i == times // 5:
            before = one.resident()
    return before, one.resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="of each moved control and grid (default: 20)")
    parser.add_argument("--starts", type=int, default=3, help="of the app (default: 3)")
    parser.add_argument("--visitors", type=int, default=20, help="at once (default: 20)")
    parser.add_argument("--interactions", type=int, default=500, help="while memory is watched; 0: none (default: 500)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    options = parser.parse_args()
    print(f"{processor()}, {options.threads} thread(s), synthetic64")
    with tempfile.TemporaryDirectory(prefix="facegan-app-bench-") as name:
        folder = Path(name)
        seconds, busy = first_face(folder, options.starts, options.threads)
        told("start to first face", seconds, BARS["first face"], busy)
        for what, rows, cols, bar, times in (
            ("moved control to new face", "0", "1", "control", options.times),
            ("8 x 8 grid", "0-7", "8-15", "grid", max(3, options.times // 4)),
        ):
            seconds, busy = in_the_server(rows, cols, times, options.threads)
            told(what, seconds, BARS[bar], busy)
        with app_server.served(["synthetic64"], folder / "app.log", threads=options.threads) as one:
            client = Client(one.address, verbose=False, download_files=str(folder))
            print(f"moved control to new face, with HTTP: {control(client, options.times):.3f} s")
            paint = first_paint(one, 5)
            print("first paint: not measured, needs playwright and chromium") if paint is None else told(
                "first paint", paint, BARS["paint"]
            )
            served, seconds = visitors(one, options.visitors, folder)
            print(f"{options.visitors} visitors at once: {served} served, the last after {seconds:.1f} s")
            if options.interactions:
                before, after = memory(one, client, options.interactions)
                print(
                    f"memory: {before:.0f} MiB after {options.interactions // 5} interactions, {after:.0f} MiB after {options.interactions}"
                )


def told(what: str, seconds: float, bar: float, busy: float | None = None) -> None:
    """A figure beside its bar; where the CPU was busy for much less, other programs had it."""
    cpu = "" if busy is None else f", CPU {busy:.3f} s"
    print(f"{what}: {seconds:.3f} s{cpu} (bar {bar:g} s{'' if seconds <= bar else ', MISSED'})", flush=True)


if __name__ == "__main__":
    main()
