"""The heap of a process that computes on a CPU: what tensors leave behind is kept for the next.

A backward pass frees what the forward pass saved. By default glibc hands that back to the kernel,
of which the next pass asks for it page by page again, each of them zeroed.
"""

import ctypes
import sys
from functools import cache

# Names of mallopt(3), and values: nothing is handed back by itself, but for blocks of 32 MiB and
# more, the most that can be said, which are mapped and come and go alone.
M_TRIM_THRESHOLD, NEVER = -1, -1
M_MMAP_THRESHOLD, LARGE = -3, 2**25


def keep_freed_memory() -> None:
    """For the whole process; where there is no glibc nothing changes."""
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def hand_back_freed_memory() -> None:
    """So that what is free for this process and what the machine says is free are the same."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
