"""Measured work in this process instead of one of its own: libraries are here already."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import log_probs, memory
from benchmarks.parts import policy_quality, policy_runs, policy_speed, policy_training, runs
from benchmarks.parts.runs import Run
from harness.program import run as run_here
from tests.harness.conftest import cache_dir  # noqa: F401

WORKERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "policy_training.py": policy_training.train,
    "memory.py": memory.child,
    "log_probs.py": log_probs.child,
}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, cache_dir) -> None:  # noqa: F811
    """Workers and whole runs are called, not started; runs share their stages with other tests."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    seen = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": 2.0}

    def measured(command: Sequence[str], work: dict[str, Any]) -> dict[str, Any]:
        return WORKERS[Path(command[1]).name](dict(work))

    def run(folder: Path, cache: Path, overrides: Sequence[str], checkout: Path = runs.ROOT) -> Run:
        places = [f"hydra.run.dir={folder}", f"cache_dir={cache_dir}"]
        run_here("logger=none", *overrides, *places)
        return Run(folder, seen)

    for module in (policy_speed, policy_quality, memory, log_probs):
        monkeypatch.setattr(module, "measured", measured)
    for module in (policy_quality, policy_runs):
        monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(policy_runs, "watched", lambda *given: seen | {"peak_mib": 1.0})


@pytest.fixture
def typed(monkeypatch, capsys) -> Callable[..., str]:
    """typed(command, *arguments): what a benchmark's `main` prints."""

    def call(command: Any, *arguments: Any) -> str:
        monkeypatch.setattr("sys.argv", [command.__name__, *map(str, arguments)])
        command.main()
        return capsys.readouterr().out

    return call
