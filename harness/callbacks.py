"""What is shown and kept while a run trains."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.tracking import WandbRun

SHOWN = {
    "rollout/score": "score",
    "rollout/kl": "kl",
    "train/clip_fraction": "clip",
    "val/gold": "gold",
    "val/win_rate": "win",
    "train/loss": "loss",
    "train/accuracy": "accuracy",
    "val/accuracy": "held out",
}


class ProgressBar(Callback):
    """A bar with the numbers that matter; where there is no terminal, a line now and then."""

    def __init__(self, console: Console, label: str, total: Callable[[pl.Trainer], int]):
        self.console = console
        self.label = label
        self.total = total
        self.bar: Progress | None = None
        self.done = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # current_epoch counts iterations of a policy; supervised modules have many batches in one.
        self.done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        self.every = max(1, self.total(trainer) // 10)
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(
                self.label, total=self.total(trainer), completed=self.done, numbers=""
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self.done += 1
        if self.bar:
            self.bar.update(self.task, completed=self.done, numbers=_numbers(trainer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if trainer.is_global_zero and not self.bar and self.done and self.done % self.every == 0:
            self._print(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()
        if trainer.is_global_zero:
            self._print(trainer)

    def on_exception(self, *args: Any) -> None:
        self._close()

    def _print(self, trainer: pl.Trainer) -> None:
        self.console.print(
            f"  {self.label} {self.done}/{self.total(trainer)}  {_numbers(trainer)}",
            highlight=False,
        )

    def _close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _numbers(trainer: pl.Trainer) -> str:
    metrics = trainer.callback_metrics
    return "  ".join(
        f"{label} {float(metrics[name]):.3g}" for name, label in SHOWN.items() if name in metrics
    )


class SampleTable(Callback):
    """The same held-out prompts at every evaluation, answered by the policy and the reference.

    They accumulate in samples.jsonl and in one W&B table.
    """

    def __init__(self, path: Path, count: int, keep_iterations: int):
        self.path = path
        self.count = count
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with open(path) as lines:
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
        answered = pl_module.evaluation.rows
        count = min(self.count, len(answered))
        chosen = [answered[i * len(answered) // count] for i in range(count)]
        self.rows += [{"iteration": iteration} | row for row in chosen]
        draft = self.path.with_name(f".{self.path.name}")
        draft.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(draft, self.path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                columns = list(self.rows[0])
                table = wandb.Table(columns, [[row[c] for c in columns] for row in self.rows])
                logger.log_metrics({"samples": table}, step=trainer.current_epoch)
