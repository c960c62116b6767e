"""Memory: keeps what is freed in the process, and knows when there is none left.

glibc gives every large block back to the system as soon as it is freed, so that each new tensor is fresh memory, which the system
clears and maps page by page as it is written. A generator's forward pass at 128 px takes 24,000 such page faults, a third of its time
on one thread; a training step of Method A at 32 px 1,200, a twentieth. With the memory kept there are none to speak of.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is exhausted: PyTorch has a type of its own for a GPU's, and only words for the machine's."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def keep_memory() -> bool:
    """Has glibc keep what is freed for the next allocation; False where the C library is another, and nothing is changed.

    The process stays as large as it ever was: for commands that compute until they end. MALLOC_TRIM_THRESHOLD_ or
    MALLOC_MMAP_MAX_ in the environment win, as someone has chosen them.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_MAX_" in os.environ:
        return False
    mallopt = _glibc("mallopt")
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def give_back() -> bool:
    """Returns what is free to the system now, however `keep_memory` was called; False where there was nothing, or no glibc.

    For processes that go on for days: what lies free between what is still in use adds up.
    """
    trim = _glibc("malloc_trim")
    return bool(trim and trim(0))


def _glibc(name: str) -> Any:
    """A function of glibc; None where the C library is another."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (musl and macOS have no such symbol)
        return getattr(library, name)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of the whole process
        return None
