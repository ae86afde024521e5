"""Whole runs by the command line, in a folder and a checkout, and what they leave behind."""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.parts.processes import ROOT, watched

# A budget of seconds on the embedded world: of what stages need, and of policies.
TINY_WORLD = (
    "hardware=cpu",
    "data.train_demonstrations=96",
    "data.train_pairs=96",
    "data.val_pairs=48",
    "stages.sft.epochs=1",
    "stages.reward_model.epochs=1",
)
TINY_JOB = (
    *TINY_WORLD,
    "algo.iterations=2",
    "algo.prompts_per_iteration=8",
    "algo.val_prompts=8",
)


@dataclass(frozen=True)
class Run:
    """What a run wrote, and what was seen of it from outside: seconds, CPU seconds, peak MiB."""

    folder: Path
    seen: dict[str, float]

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    def column(self, name: str) -> list[float]:
        """A metric of every iteration."""
        with open(self.folder / "metrics.csv", newline="", encoding="utf-8") as file:
            return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def run(folder: Path, cache: Path, overrides: Sequence[str], checkout: Path = ROOT) -> Run:
    """`python run.py <overrides>` of that checkout, in a folder that is new."""
    shutil.rmtree(folder, ignore_errors=True)
    places = [f"hydra.run.dir={folder}", f"cache_dir={cache}"]
    log = folder.with_suffix(".log")
    command = [sys.executable, "run.py", "logger=none", *overrides, *places]
    return Run(folder, watched(command, checkout, log))
