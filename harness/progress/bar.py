"""How far a training is: a bar on a terminal, a line now and then elsewhere."""

from math import ceil
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.durations import clock, roughly
from harness.printable import printable
from harness.progress.lines import bar, one_line
from harness.progress.plan import Plan

SHOWN = {
    "rollout/score": "score",
    "rollout/kl": "KL",
    "train/clip_fraction": "clip",
    "train/loss": "loss",
    "train/accuracy": "accuracy",
}
# Without a terminal: seconds from one line to the next, and share of the steps, at least.
SPACING = 30.0
TENTH = 0.1


class ProgressBar(Callback):
    """Shows how far the part in hand is, with the numbers that matter, and measures its pace for
    the plan. Looks on only: nothing random, nothing of the models.
    """

    def __init__(self, console: Console, plan: Plan):
        self.console = console
        self.plan = plan
        self.live: Live | None = None
        self.numbers: list[str] = []
        self.status = ""

    # -- what happens -----------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # current_epoch counts iterations of a policy; supervised modules have many batches in one.
        self.done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        self.total = trainer.num_training_batches * trainer.max_epochs
        self.evaluations = self.evaluated(trainer, pl_module, trainer.max_epochs)
        self.part = self.plan.part
        self.label = printable(self.part.title)  # before its width is measured
        self.first = self.share(self.done)
        self.part.train.start(self.first)
        evaluated = self.evaluated(trainer, pl_module, trainer.current_epoch)
        self.part.evaluate.start(evaluated / self.evaluations)
        self.began = self.measured = self.plan.clock()
        self.told = (self.began, self.done)
        self.judging = 0.0  # seconds of evaluations, which are no training
        if self.console.is_terminal:
            self.live = Live(self, console=self.console, transient=True, refresh_per_second=4)
            self.live.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.passes = 0

    def on_after_backward(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.is_global_zero:
            self.passes += 1
            self.move(self.within(self.passes))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if not trainer.is_global_zero:
            return
        self.done += 1
        self.part.steps += 1
        self.numbers = numbers(trainer.callback_metrics)
        self.move(0.0)
        self._tell()

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.judged, self.paused = 0, self.plan.clock()
        self.status = "evaluating"

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.judged += 1
        batches = sum(trainer.num_val_batches)
        self.status = f"evaluating {self.judged}/{batches}" if batches > 1 else "evaluating"

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.status = ""
        self.judging += self.plan.clock() - self.paused
        evaluate = self.part.evaluate
        evaluate.reach(min(1.0, evaluate.done + 1 / self.evaluations), self.judging)
        self.plan.note()

    def on_train_end(self, *args: Any) -> None:
        self._close()

    def on_exception(self, *args: Any) -> None:
        self._close()

    def evaluated(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epochs: int) -> int:
        """How many evaluations there are in the first so many epochs of Lightning's."""
        return ceil(epochs / (trainer.check_val_every_n_epoch or 1))

    def share(self, steps: float) -> float:
        """The share of the whole part that so many steps are, the last one perhaps in part."""
        return steps / self.total

    def within(self, passes: int) -> float:
        """The share of a step that is done after so many backward passes; 0 if that is unknown."""
        return 0.0

    # -- what is made of it -----------------------------------------------------------------------

    def move(self, within: float) -> None:
        """So much of the step that has begun is done."""
        now, share, train = self.plan.clock(), self.share(self.done + within), self.part.train
        if within and train.begun == self.first < share:  # the first pass is slower than others
            self.measured = now
            train.start(share)
            return
        train.reach(share, now - self.measured - self.judging)
        self.plan.note()

    def _tell(self) -> None:
        """Where there is no bar, a line now and then."""
        when, done = self.told
        now = self.plan.clock()
        if self.live or now - when < SPACING or self.done - done < TENTH * self.total:
            return
        self.told = (now, self.done)
        left = self.plan.left()
        end = f"{roughly(left)} left" if left else ""
        head = f"  {self.label} {self.done}/{self.total}"
        self.console.print(one_line(self.console.width, head, self.numbers, end))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar: what it is of, how far, for how long; then as many numbers as fit."""
        width = options.max_width
        length = 24 if width >= 100 else 14 if width >= 72 else 6
        drawn = bar(self.part.train.done, length, console.encoding)
        left = self.plan.left()
        times = clock(self.plan.clock() - self.began) + (f", {clock(left)} left" if left else "")
        must = f"  {self.label} {drawn} {self.done}/{self.total}  {times}"
        shown = [self.status] if self.status else self.numbers
        yield Text(one_line(width, must, shown), no_wrap=True)

    def _close(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None


def numbers(metrics: Any) -> list[str]:
    """Those of the metrics that matter while a training runs, each with its name."""
    return [
        f"{label} {float(metrics[name]):.3g}" for name, label in SHOWN.items() if name in metrics
    ]
