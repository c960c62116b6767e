"""The longest-living command, `facegan app`, asked again and again by visitors who come and go: every answer comes, memory stays flat.

    python tests/campaigns/interactions.py --count 500 --seconds 900 --seed 0

A process of its own, over HTTP: faces by seeds, mixes of all kinds, and requests that it must refuse. A refusal has to be the sentence
that is due; nothing in its log may be an error; and the mean memory of the last fifth of all interactions may be above that of the second
fifth by 5 % and 10 MiB. Needs facegan[app].
"""

from __future__ import annotations

import importlib.util
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from app_server import served
from arguments import parser_of

NETWORK = "synthetic64"
VISIT = 40  # interactions, after which another visitor comes
LEAST = 50  # interactions below which nothing is said about memory
BAD = {  # requests to refuse: endpoint, values, the sentence
    "seeds": ("/generate", (NETWORK, "../..", 1.0, 0), "expected numbers"),
    "network": ("/generate", ("/etc/passwd", "0", 1.0, 0), "not in the list of choices"),
    "rows": ("/mix", (NETWORK, "", [], "2", [], "crossover", 0, 3, 1.0, 1.0), "Rows is missing"),
    "photo": ("/project", (NETWORK, None, "w", 10), "Photo is missing"),
}


def asked(dice: random.Random) -> tuple[str, str, tuple, str]:
    """(kind, endpoint, values, the refusal that is due, if any)."""
    kind = dice.choices(["generate", "mix", "refused"], [5, 5, 1])[0]
    first = dice.randrange(5000)
    if kind == "generate":
        return kind, "/generate", (NETWORK, f"{first}-{first + dice.randrange(6)}", round(dice.uniform(0, 1.5), 2), 0), ""
    if kind == "mix":
        rows, columns = f"{first}-{first + dice.randrange(3)}", f"{first + 10}-{first + 10 + dice.randrange(3)}"
        mode, layers = dice.choice(["crossover", "interpolate", "arithmetic"]), sorted((dice.randrange(8), dice.randrange(8)))
        return kind, "/mix", (NETWORK, rows, [], columns, [], mode, *layers, round(dice.random(), 2), 1.0), ""
    return kind, *BAD[dice.choice(sorted(BAD))]


def answer(client: Any, endpoint: str, values: tuple, due: str) -> str:
    """What was wrong with it; empty where nothing was."""
    try:
        found = client.predict(*values, api_name=endpoint)
    except Exception as error:  # gradio_client has one class for the server's sentence, httpx others for a server that is gone
        said = str(error)
        return "" if due and due in said else f"{endpoint} {values}: {said[:300] or type(error).__name__}"
    if due:
        return f"{endpoint} {values}: not refused"
    pictures = [picture["image"] for picture in found[0]] if endpoint == "/generate" else [found[0]]
    missing = [picture for picture in pictures if not Path(picture).stat().st_size]
    return f"{endpoint} {values}: no picture" if missing or not pictures else ""


def errors(log: str) -> list[str]:
    """Tracebacks in what the command wrote, but for those that Gradio writes of a choice that it refuses by itself."""
    found = re.findall(r"^Traceback .*?^(?=\S)(?!Traceback)[^\n]*$", log, re.MULTILINE | re.DOTALL)
    return [each for each in found if not ("gradio.exceptions.Error" in each and "not in the list of choices" in each)]


def growth(memory: Sequence[float]) -> tuple[float, float]:
    """MiB, the means of the second and of the last fifth."""
    fifth = len(memory) // 5
    return statistics.fmean(memory[fifth : 2 * fifth]), statistics.fmean(memory[-fifth:])


def main(count: int, seconds: float, seed: int) -> int:
    """`count` interactions, or as many as fit into so many seconds; 1 where one failed, or memory grew."""
    if not importlib.util.find_spec("gradio"):
        print("skipped: facegan[app] is not installed")
        return 0
    from gradio_client import Client

    dice, until = random.Random(seed), time.monotonic() + seconds
    memory, wrong, done, visitors, longest = list[float](), list[str](), Counter[str](), 0, 0.0
    with tempfile.TemporaryDirectory() as name, served([NETWORK], Path(name) / "app.log") as one:
        while len(memory) < count and time.monotonic() < until and len(wrong) < 10:
            if len(memory) % VISIT == 0:
                client, visitors = Client(one.address, verbose=False, download_files=name, analytics_enabled=False), visitors + 1
            kind, endpoint, values, due = asked(dice)
            start = time.monotonic()
            failed = answer(client, endpoint, values, due)
            longest = max(longest, time.monotonic() - start)
            wrong += [f"interaction {len(memory)}: {failed}"] * bool(failed)
            done[kind] += 1
            memory.append(one.resident())
        text = one.log.read_text(errors="replace")
        if one.process.poll() is not None:
            wrong.append(f"the command ended with {one.process.returncode}: {text[-1500:]}")
        wrong += [f"its log has an error: {error[:1500]}" for error in errors(text)]
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(done.items()))
    line = f"{len(memory)} interactions ({told}) of {visitors} visitors, the longest {longest:.1f} s"
    if len(memory) >= LEAST:
        before, after = growth(memory)
        if after > 1.05 * before + 10:
            wrong.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
        line += f"; memory {before:.0f} MiB in the second fifth, {after:.0f} MiB in the last"
    print(f"{line}: {'; '.join(wrong) or 'all answered, no error'}")
    return int(bool(wrong))


if __name__ == "__main__":
    parser = parser_of(__doc__, count=500, seconds=900)
    sys.exit(main(**vars(parser.parse_args())))
