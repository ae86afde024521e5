"""Responses to the same held-out prompts over time: samples.jsonl, and a table in W&B."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from harness.disk.files import write_text
from harness.ranks import this_rank
from harness.tracking.tracker import trackers
from harness.tracking.whole_rows import json_rows


class SampleTable(Callback):
    """The same held-out prompts at every evaluation, with responses of the policy and the
    reference.

    They accumulate in samples.jsonl and in one W&B table.
    """

    def __init__(self, path: Path, count: int, keep_iterations: int):
        self.path = path
        self.count = count
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []  # on lines that were damaged
        if path.is_file() and this_rank() == 0:
            self.rows, self.notes = json_rows(path, keep_iterations)

    @property
    def latest(self) -> list[dict[str, Any]]:
        """The rows of the last evaluation."""
        last = self.rows[-1]["iteration"] if self.rows else None
        return [row for row in self.rows if row["iteration"] == last]

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iteration = trainer.current_epoch + 1
        rows = pl_module.evaluation.rows
        count = min(self.count, len(rows))
        chosen = [rows[i * len(rows) // count] for i in range(count)]
        # An evaluation that was stopped is done again.
        self.rows = [row for row in self.rows if row["iteration"] != iteration]
        self.rows += [{"iteration": iteration} | row for row in chosen]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
        for tracker in trackers(trainer.loggers):
            tracker.log_media(trainer.current_epoch, tables={"samples": self.rows})
