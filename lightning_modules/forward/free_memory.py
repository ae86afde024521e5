"""What of a device's memory a process may still take."""

from pathlib import Path

import torch

from lightning_modules.forward.heap import hand_back_freed_memory

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


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
