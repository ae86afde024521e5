"""A line an evaluation that stays on the terminal, with a small curve of those so far."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from harness.durations import roughly
from harness.progress.lines import curve, one_line
from harness.progress.plan import Plan

# The first is drawn as a curve.
OF_POLICIES = {
    "val/score": "score",
    "val/gold": "gold",
    "val/win_rate": "win",
    "val/kl": "KL",
    "val/held_out_score": "held-out score",
    "val/length": "length",
}
OF_SUPERVISED = {
    "val/loss": "held-out loss",
    "val/accuracy": "accuracy",
    "val/thumbs_auc": "AUC of thumbs",
    "val/thumbs_accuracy": "accuracy of thumbs",
    "train/loss": "training loss",
}


class EvaluationLines(Callback):
    """`what` is that of which Lightning's epochs are counted, `shown` names metrics, the most
    important first.
    """

    def __init__(self, console: Console, plan: Plan, what: str, shown: Mapping[str, str]):
        self.console = console
        self.plan = plan
        self.what = what
        self.shown = shown

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not trainer.is_global_zero:
            return
        now = {name: float(value) for name, value in trainer.callback_metrics.items()}
        curved = next(iter(self.shown))
        # metrics.csv has those before, of a run that was resumed too, and this one.
        rows = trainer.loggers[0].rows
        values = [float(row[curved]) for row in rows if row.get(curved) is not None]
        drawn = curve(values, self.console.encoding)
        numbers = [
            f"{label} {now[name]:.3g}{f' {drawn}' * (name == curved and bool(drawn))}"
            for name, label in self.shown.items()
            if name in now
        ]
        left = self.plan.left()
        head = f"  {self.what} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        end = f"{roughly(left, 0.1)} left" if left else ""
        self.console.print(one_line(self.console.width, head, numbers, end))
