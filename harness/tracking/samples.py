"""Responses to the same held-out prompts over time: samples.jsonl, and a table in W&B."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from harness.runs.files import write_text
from harness.tracking.tracker import trackers


class SampleTable(Callback):
    """The same held-out prompts at every evaluation, with responses of the policy and the
    reference.

    They accumulate in samples.jsonl and in one W&B table.
    """

    def __init__(self, path: Path, count: int, keep_iterations: int):
        self.path = path
        self.count = count
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with open(path, encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines if line.endswith("\n")]
            self.rows = [row for row in rows if row["iteration"] <= keep_iterations]

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
        self.rows += [{"iteration": iteration} | row for row in chosen]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
        for tracker in trackers(trainer.loggers):
            tracker.log_media(trainer.current_epoch, tables={"samples": self.rows})
