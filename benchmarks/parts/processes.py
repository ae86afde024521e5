"""Measured work in processes of its own, of this project or of a peer in its own environment."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUTPUTS = ROOT / "outputs" / "benchmarks"
SURROUNDINGS = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    # As harness/program.py has it: threads that spin while they wait slow down whatever else runs.
    "GOMP_SPINCOUNT": "5000",
}
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def here(script: str) -> list[str]:
    """The command of a worker of this project."""
    return [sys.executable, str(ROOT / "benchmarks" / script)]


def measured(command: Sequence[str], work: dict[str, Any]) -> dict[str, Any]:
    """Give a worker its work as JSON, and return what it measured: its last line, JSON too."""
    environment = os.environ | SURROUNDINGS | {"OMP_NUM_THREADS": str(work["threads"])}
    done = subprocess.run(
        [*command, json.dumps(work)],
        capture_output=True,
        text=True,
        env=environment,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def watched(command: Sequence[str], cwd: Path, log: Path) -> dict[str, float]:
    """Run a whole program; its seconds, CPU seconds and peak memory, seen from outside."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = 0.0
    with open(log, "w", encoding="utf-8") as file:
        child = subprocess.Popen(
            command, cwd=cwd, env=os.environ | SURROUNDINGS, stdout=file, stderr=subprocess.STDOUT
        )
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            peak = max(peak, _mib(status, "VmHWM"))
            time.sleep(0.02)
    if child.returncode:
        told = log.read_text(encoding="utf-8", errors="replace")
        sys.exit(f"{' '.join(command)} in {cwd} failed:\n{told[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - started, "cpu_seconds": used, "peak_mib": peak}


def peak_mib() -> float:
    """The most memory that this process has held: on the GPU if there is one, else in all."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.exists():  # getrusage also counts what the parent held when it started this
        return _mib(STATUS, "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def forget_peak() -> float:
    """From here on `peak_mib` counts anew; returns what is held now, in MiB."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5", encoding="utf-8")
    return _mib(STATUS, "VmRSS") if STATUS.exists() else peak_mib()


def _mib(status: Path, name: str) -> float:
    """A line of a process' status in MiB; 0 where the process has just ended."""
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) / 2**10 if found else 0.0


def make_environment(folder: Path, packages: Iterable[str]) -> Path:
    """The Python of an environment with these packages, made if it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        packages = list(packages)
        print(f"installing {', '.join(packages)} into {folder} ...", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def compared(what: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """A line that says how many times as much of something ours is."""
    return f"{what}: {ratios(ours, theirs)}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of each round's ratio, and the rounds."""
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    each = ", ".join(f"{ratio:.2f}" for ratio in found)
    return f"{statistics.median(found):.2f} (rounds: {each})"
