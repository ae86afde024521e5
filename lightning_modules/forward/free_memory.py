"""What of a device's memory a process may still take, and what of it a process on a CPU keeps."""

import ctypes
import sys
from functools import cache
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# Names of mallopt(3), and values: nothing is handed back by itself, but for blocks of 32 MiB and
# more, the most that can be said, which are mapped and come and go alone.
M_TRIM_THRESHOLD, NEVER = -1, -1
M_MMAP_THRESHOLD, LARGE = -3, 2**25


def free_bytes(device: torch.device, processes: int) -> int | None:
    """What one of `processes` on this machine may still take on `device`; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch has set aside and does not use is free for it.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    hand_back_freed_memory()
    known = [x for x in (_available(), _left_in_container()) if x is not None]
    return min(known) // processes if device.type == "cpu" and known else None


def _available(path: Path = MEMINFO) -> int | None:
    """MemAvailable of Linux, in bytes."""
    if not path.is_file():
        return None
    lines = dict(
        line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if ":" in line
    )
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _left_in_container(folder: Path = CGROUP) -> int | None:
    """What a container's limit leaves, in bytes; None where there is no limit."""
    limit, used, stat = (folder / f"memory.{name}" for name in ("max", "current", "stat"))
    if not (limit.is_file() and used.is_file() and stat.is_file()):
        return None
    if limit.read_text(encoding="utf-8").strip() == "max":
        return None
    # Files that are cached are given up when memory is short.
    cached = dict(line.split() for line in stat.read_text(encoding="utf-8").splitlines())["file"]
    return max(
        int(limit.read_text(encoding="utf-8"))
        - int(used.read_text(encoding="utf-8"))
        + int(cached),
        0,
    )


def keep_freed_memory() -> None:
    """For the whole process: what tensors leave behind is kept for the next ones. A backward pass
    frees what the forward pass saved; by default glibc hands that back to the kernel, of which the
    next pass asks for it page by page again, each of them zeroed. Without glibc nothing changes.
    """
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
