"""metrics.csv: one row a step, which every run writes."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only


class MetricsCsv(Logger):
    """One row a step, whatever number of calls its metrics come in.

    `step` counts from 1: the row says what was known after so many steps. A row is on the disk
    before the step's checkpoint is, so a resumed run finds every row that it builds on.
    """

    def __init__(self, path: Path, keep_steps: int = 0):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self.rows = [
                {k: v for k, v in row.items() if v != ""}
                for row in rows
                if int(row["step"]) <= keep_steps
            ]
            self._rewrite()

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config is in config.yaml already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": (step or 0) + 1} | {k: v for k, v in metrics.items() if k != "epoch"}
        if self.rows and int(self.rows[-1]["step"]) == row["step"]:
            self.rows[-1] |= row
            self._rewrite()
        else:
            known = self._columns()
            self.rows.append(row)
            if set(row) <= set(known):
                with open(self.path, "a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, known).writerow(row)
            else:
                self._rewrite()

    def last_values(self) -> dict[str, float]:
        """The latest value of every metric."""
        latest: dict[str, float] = {}
        for row in self.rows:
            latest |= {k: float(v) for k, v in row.items() if k != "step"}
        return latest

    def _columns(self) -> list[str]:
        names = {name for row in self.rows for name in row} - {"step"}
        return ["step", *sorted(names)]

    def _rewrite(self) -> None:
        draft = self.path.with_name(f".{self.path.name}")
        with open(draft, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns())
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(draft, self.path)
