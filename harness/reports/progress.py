"""How far a training is: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.printable import printable

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
        self.label = printable(label)  # before its width is measured
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
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[numbers]}", markup=False),
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
        self.console.print(f"  {self.label} {self.done}/{self.total(trainer)}  {_numbers(trainer)}")

    def _close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _numbers(trainer: pl.Trainer) -> str:
    metrics = trainer.callback_metrics
    return "  ".join(
        f"{label} {float(metrics[name]):.3g}" for name, label in SHOWN.items() if name in metrics
    )
