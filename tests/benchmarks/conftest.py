"""Measured work in this process instead of one of its own: libraries are here already."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from benchmarks import log_probs, memory
from benchmarks.parts import policy_quality, policy_runs, policy_speed, policy_training
from benchmarks.parts.composed import composed
from benchmarks.parts.processes import ROOT
from benchmarks.parts.runs import Run
from harness.program import run as run_here
from tests.harness.conftest import cache_dir  # noqa: F401

WORKERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "policy_training.py": policy_training.train,
    "memory.py": memory.child,
    "log_probs.py": log_probs.child,
}


SEEN = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": 2.0}


def measured(command: Sequence[str], work: dict[str, Any]) -> dict[str, Any]:
    return WORKERS[Path(command[1]).name](dict(work))


def refused_or_told(
    folder: Path, cache: Path, overrides: Sequence[str], checkout: Path = ROOT
) -> Run:
    """A run that ends when its options have been looked at, with clocks that stand still."""
    cfg = composed(*overrides, f"cache_dir={cache}")
    instantiate(cfg.algo)
    folder.mkdir(exist_ok=True)
    clocks = [f"time/{name}" for name in policy_runs.CLOCKS]
    rows = [",".join(clocks)] + 3 * [",".join("2.0" for _ in clocks)]
    (folder / "metrics.csv").write_text("\n".join(rows), encoding="utf-8")
    return Run(folder, SEEN)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, cache_dir) -> None:  # noqa: F811
    """Workers are called, not started. Of whole runs one shares its stages with other tests, and
    the others are only composed.
    """
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(folder: Path, cache: Path, overrides: Sequence[str]) -> Run:
        places = [f"hydra.run.dir={folder}", f"cache_dir={cache_dir}"]
        run_here("logger=none", *overrides, *places)
        return Run(folder, SEEN)

    for module in (policy_speed, policy_quality, memory, log_probs):
        monkeypatch.setattr(module, "measured", measured)
    monkeypatch.setattr(policy_quality, "run", run)
    monkeypatch.setattr(policy_runs, "run", refused_or_told)
    monkeypatch.setattr(policy_runs, "watched", lambda *given: SEEN | {"peak_mib": 1.0})


@pytest.fixture
def typed(monkeypatch, capsys) -> Callable[..., str]:
    """typed(command, *arguments): what a benchmark's `main` prints."""

    def call(command: Any, *arguments: Any) -> str:
        monkeypatch.setattr("sys.argv", [command.__name__, *map(str, arguments)])
        command.main()
        return capsys.readouterr().out

    return call
