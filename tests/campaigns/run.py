"""All campaigns, each a process of its own with a limit of time, two at once: about an hour on two cores.

    make campaigns
    python tests/campaigns/run.py --only kills,power_cuts --scale 0.1 --seed 7

Prints what each counted and whether it held. Status 1 where one did not, ended with an error, or had to be killed because it took far
longer than it was given: a hang is a finding. What cannot run here (no root, a package that is missing) says so and counts as skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GRACE = 420.0  # seconds beyond what a campaign was given: preparations, and the last life of each command
ENDS = 30.0  # seconds for it to clean up once it was told to end


@dataclass(frozen=True)
class Campaign:
    """A module beside this one, and what it is given."""

    name: str
    count: int
    seconds: float
    what: str
    alone: bool = False  # measures time, and is disturbed by others

    def words(self, seed: int, scale: float, folder: Path = HERE) -> list[str]:
        """The command."""
        count = max(1, round(self.count * scale))
        given = ["--count", str(count), "--seconds", str(self.seconds * scale), "--seed", str(seed)]
        return [sys.executable, str(folder / f"{self.name}.py"), *given]


CAMPAIGNS = (  # the longest first
    Campaign("kills", 1000, 1800, "SIGKILLs at changes of files, steps and times"),
    Campaign("machines", 20, 1500, "deaths, stops and cut cables of one of two machines"),
    Campaign("operators", 100_000, 1200, "operators with random shapes, values and layouts, on every backend"),
    Campaign("full_disks", 100, 600, "disks that fill"),
    Campaign("power_cuts", 200, 400, "files as a power cut leaves them"),
    Campaign("streaming", 200, 300, "decoding processes killed and stopped"),
    Campaign("interactions", 500, 600, "requests to one process of facegan app"),
    Campaign("busy", 3, 600, "trainings beside programs that never wait", alone=True),
)


@dataclass(frozen=True)
class Outcome:
    """How it ended: `held`, `skipped`, `FAILED` or `HUNG`, after so many seconds, and all that it said."""

    campaign: Campaign
    verdict: str
    seconds: float
    said: str

    @property
    def bad(self) -> bool:
        """Whether something is to be looked at."""
        return self.verdict in ("FAILED", "HUNG")

    @property
    def last(self) -> str:
        """The line of counts, which campaigns end with."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def environment() -> dict[str, str]:
    """One thread a process, and this repository's packages."""
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """It, and all that it started, are gone afterwards; Ctrl-C lets it take away its namespaces and disks first."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(campaign: Campaign, seed: int, scale: float, folder: Path = HERE, grace: float = GRACE) -> Outcome:
    """One campaign, to its end or to the end of its time."""
    words = campaign.words(seed, scale, folder)
    if not Path(words[1]).exists():
        return Outcome(campaign, "skipped", 0.0, f"skipped: there is no {campaign.name}.py here")
    start, limit = time.monotonic(), campaign.seconds * scale + grace
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment(), cwd=ROOT, start_new_session=True)
        hung = False
        with ended(process):
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                hung = True
        log.seek(0)
        said = log.read().decode(errors="replace")
    verdict = "HUNG" if hung else "FAILED" if process.returncode else "held"
    if verdict == "held" and said.strip().rpartition("\n")[2].startswith("skipped"):
        verdict = "skipped"
    return Outcome(campaign, verdict, time.monotonic() - start, said)


def told(outcome: Outcome) -> None:
    """All that a campaign said, under its name."""
    print(f"--- {outcome.campaign.name}: {outcome.campaign.what}; {outcome.verdict} after {outcome.seconds:.0f} s", flush=True)
    print(outcome.said.rstrip(), flush=True)


def main(chosen: Sequence[Campaign], seed: int, scale: float, jobs: int, folder: Path = HERE, grace: float = GRACE) -> int:
    """1 where one of them did not hold."""
    outcomes = list[Outcome]()
    for alone in (False, True):
        with ThreadPoolExecutor(1 if alone else jobs) as pool:
            running = [pool.submit(run, each, seed, scale, folder, grace) for each in chosen if each.alone is alone]
            for future in as_completed(running):
                outcomes.append(future.result())
                told(outcomes[-1])
    print("---")
    for outcome in outcomes:
        print(f"{outcome.campaign.name:<13}{outcome.verdict:<8}{outcome.seconds:>6.0f} s  {outcome.last[:200]}")
    bad = [outcome.campaign.name for outcome in outcomes if outcome.bad]
    skipped = sum(outcome.verdict == "skipped" for outcome in outcomes)
    print(f"{len(outcomes)} campaigns, {skipped} skipped, {len(bad)} to look at{': ' * bool(bad)}{', '.join(bad)}")
    return int(bool(bad))


def parsed(words: Sequence[str] | None = None) -> tuple[list[Campaign], int, float, int]:
    """(campaigns, seed, scale, jobs) of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {each.name: each for each in CAMPAIGNS}
    parser.add_argument("--only", default=",".join(known), help="names, joined by commas (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (default: 0)")
    parser.add_argument("--scale", type=float, default=1.0, help="of every count and time (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="campaigns at once; those that measure time run alone (default: 2)")
    given = parser.parse_args(words)
    names = given.only.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--only names {', '.join(unknown)}: expected {', '.join(known)}")
    if given.scale <= 0 or given.jobs < 1:
        parser.error(f"--scale is {given.scale:g} and --jobs {given.jobs}: expected numbers above 0")
    return [known[name] for name in names], given.seed, given.scale, given.jobs


if __name__ == "__main__":
    sys.exit(main(*parsed()))
