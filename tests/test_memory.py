"""That freed memory is kept, in processes of their own: mallopt cannot be taken back."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from facegan import memory

PROBE = """
import resource, sys
import torch
from facegan.memory import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
def fill():
    for _ in range(20):
        torch.ones(1 << 23)  # 32 MiB, 8192 pages of 4 KiB
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def probe(argument: str, **environment: str) -> tuple[str, int]:
    """What `keep_memory` returned, and the page faults of twenty tensors made and freed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ran = subprocess.run([sys.executable, "-c", PROBE, argument], env={**plain, **environment}, capture_output=True, text=True, check=True)
    kept, faults = ran.stdout.split()
    return kept, int(faults)


@glibc
def test_freed_memory_is_kept() -> None:
    (_, without), (kept, faults) = probe("leave"), probe("keep")
    assert kept == "True"
    assert faults < 100 < without


@glibc
def test_the_environment_wins() -> None:
    kept, faults = probe("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert faults > 100


GAPS = """
import sys
from facegan.memory import give_back, keep_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4
keep_memory()
blocks = [b"x" * 100_000 for _ in range(1000)]
full = resident()
del blocks[1:-1]  # the last one keeps all below it from being given back by itself
left = resident()
print(full, left, give_back(), resident())
"""


@glibc
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_what_lies_free_between_what_is_used_is_given_back_when_asked() -> None:
    ran = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    full, left, given, after = ran.stdout.split()
    assert given == "True"
    assert int(left) > int(full) - 10_000  # KiB; the blocks were 97,656
    assert int(after) < int(full) - 60_000


@pytest.mark.parametrize("symbols", [{}, {"mallopt": lambda *_: 1}, {"gnu_get_libc_version": None}])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, symbols: dict[str, object]) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: type("Library", (), symbols)())
    assert memory.keep_memory() is False
    assert memory.give_back() is False


def test_windows_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def cdll(name: str | None) -> None:
        raise TypeError("bad argument type")

    monkeypatch.setattr(ctypes, "CDLL", cdll)
    assert memory.keep_memory() is False
