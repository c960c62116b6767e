"""Memory: keeps what is freed in the process, and knows when there is none left.

glibc gives every large block back to the system as soon as it is freed, so that each new tensor is fresh memory, which the system
clears and maps page by page as it is written. A generator's forward pass at 128 px takes 24,000 such page faults, a third of its time
on one thread; a training step of Method A at 32 px 1,200, a twentieth. With the memory kept there are none to speak of.
"""

from __future__ import annotations

import ctypes
import os

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
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (musl and macOS have no such symbol)
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of the whole process
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
