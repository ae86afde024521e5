"""The bar of supervised training: a step of a large model takes minutes, a pass over a part of it
seconds.
"""

from math import ceil
from typing import Any

import pytorch_lightning as pl

from harness.progress.bar import ProgressBar


class SupervisedBar(ProgressBar):
    """Moves with the micro-batches of a step, and counts their tokens, padding included."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loader = trainer.train_dataloader
        self.rows = len(loader.sampler)  # of this device, in an epoch
        self.batch_size = loader.batch_size
        self.epochs = trainer.max_epochs
        self.read = 0  # tokens
        super().on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.sizes = [
            sum(part[name].numel() for name in ("input_ids", "prompt_ids") if name in part)
            for part in batch
        ]
        if trainer.is_global_zero:
            self.read += sum(self.sizes)
            read = self.share(self.done + 1) - self.first
            self.part.cost = self.part.cost.with_tokens(self.read / read)

    def share(self, steps: float) -> float:
        # The last batch of an epoch may be a small one.
        epochs, steps = divmod(steps, ceil(self.rows / self.batch_size))
        whole, within = divmod(steps, 1)
        left = self.rows - whole * self.batch_size
        rows = whole * self.batch_size + within * min(self.batch_size, left)
        return (epochs + rows / self.rows) / self.epochs

    def within(self, passes: int) -> float:
        return sum(self.sizes[:passes]) / sum(self.sizes)
