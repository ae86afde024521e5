"""The state of a training between its regular checkpoints: kept at a signal, and now and then."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from harness.errors import DiskError
from harness.runs.checkpoints import WholeCheckpoints, steps_in
from harness.signals import end_companions, end_with_this, finish_first, may_stop, remember

KEPT = "kept-*.ckpt"
# Lightning's count of the batches of an evaluation that was begun: a resumed run does it.
BEGUN = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class KeepState(Checkpoint):
    """Ends a training at a signal so that another process goes on as if there had been none.

    After a step (an iteration of a policy) its state is at hand, as references, and stays true
    until the weights change: while responses are sampled, gradients computed, held-out rows read.
    There a signal ends the training at once, and the state is written. From a step's first change
    of weights on, a signal waits for its last. `minutes`: the state is also written when that much
    time has passed since the last checkpoint; None: never.

    The last of the callbacks, whose states it keeps. One file is there at most, until the regular
    checkpoints are ahead of it.
    """

    def __init__(self, folder: Path, name: str, unit: str, minutes: float | None = None):
        self.folder = folder
        self.name = name
        self.unit = unit
        self.minutes = minutes
        self.state: dict[str, Any] | None = None
        self.regular = ""
        self.metrics: dict[str, float] = {}  # of the step that is to be evaluated

    # -- Lightning ------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        end_with_this(getattr(trainer.strategy.launcher, "procs", []))
        self.total = trainer.max_epochs * int(trainer.num_training_batches)
        progress = trainer.fit_loop.epoch_loop.batch_progress
        self._is_kept(progress.total.processed)
        if 0 < progress.current.ready < trainer.num_training_batches:  # within an epoch
            loader = trainer.train_dataloader
            loader.sampler.first = progress.current.ready * loader.batch_size
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in self.metrics.items()})
        self.metrics = {}

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # Now the row of the step before is in metrics.csv.
        may_stop()
        passed = (time.monotonic() - self.written) / 60
        if self.minutes is not None and self.state and passed >= self.minutes:
            self._write()

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.is_global_zero:
            done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
            finish_first(f"{self.unit} {done + 1}")
            self.state = None

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._take(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        self._take(trainer)
        if self.state:
            loops = self.state["loops"]["fit_loop"]
            loops["epoch_loop.val_loop.batch_progress"]["total"] = dict(BEGUN)
        self.metrics = {}
        may_stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take(trainer)
        regular = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if self.state and regular != self.regular:
            self.regular = regular
            self._is_kept(steps_in(self.state))
            self._remove_others()
        may_stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        finish_first(None)
        if not isinstance(exception, KeyboardInterrupt | SystemExit):
            return
        if self.state:
            try:
                self._write()
            except DiskError as error:
                remember(f"only {self.text} ({error})")
        end_companions()

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics = state["metrics"]

    # -- the state ------------------------------------------------------------------------------

    def _take(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self.state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)

    def _write(self) -> None:
        steps = steps_in(self.state)
        path = self.folder / KEPT.replace("*", f"{steps:05d}")
        WholeCheckpoints().save_checkpoint(self.state, path)
        self._is_kept(steps)
        self._remove_others(path)

    def _is_kept(self, steps: int) -> None:
        """So many steps are on the disk."""
        self.state, self.written = None, time.monotonic()
        self.text = f"{self.name} up to {self.unit} {steps} of {self.total}"
        if not steps:
            self.text = f"nothing of {self.name} yet"
        remember(self.text)

    def _remove_others(self, stays: Path | None = None) -> None:
        for path in self.folder.glob(KEPT):
            if path != stays:
                path.unlink()
