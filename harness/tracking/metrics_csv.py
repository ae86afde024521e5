"""metrics.csv: one row a step, which every run writes."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from harness.disk.files import append_whole, write_text
from harness.errors import RunError
from harness.tracking.whole_rows import metrics_rows


class MetricsCsv(Logger):
    """One row a step, whatever number of calls its metrics come in.

    `step` counts from 1: the row says what was known after so many steps. A row is on the disk
    before the step's checkpoint is, so a resumed run finds every row that it builds on; RunError if
    it does not. `notes` is what a person should know of the rows that are there.
    """

    def __init__(self, path: Path, keep_steps: int = 0):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        if path.is_file():
            self.rows = self._kept(keep_steps)
            self._rewrite()
        elif keep_steps:
            self.notes = [f"{path}: is missing; it begins again after step {keep_steps}"]

    def _kept(self, steps: int) -> list[dict[str, Any]]:
        """The rows that are there of the first `steps`."""
        found = metrics_rows(self.path)
        if found.last_step < steps:
            wrong = found.wrong or f"{self.path}: ends with step {found.last_step}"
            raise RunError(
                f"{wrong}, and the run goes on after step {steps}. Put the file back from a copy,"
                " or move it away to go on without the rows before"
            )
        if steps and found.first_step > 1:
            self.notes = [f"{self.path}: begins with step {found.first_step}; the others are lost"]
        rows = [row for row in found.rows if int(row["step"]) <= steps]
        return [{name: value for name, value in row.items() if value} for row in rows]

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
                append_whole(self.path, _csv(known, [row]))
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
        columns = self._columns()
        write_text(self.path, _csv(columns, [dict(zip(columns, columns, strict=True)), *self.rows]))


def _csv(columns: list[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue()
