"""The bar of supervised training: a step of a large model takes minutes, a pass over a part of it
seconds.
"""

from typing import Any

import pytorch_lightning as pl

from harness.progress.bar import ProgressBar


class SupervisedBar(ProgressBar):
    """Moves with the micro-batches of a step, and counts their tokens, padding included."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.read = 0  # tokens

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.sizes = [
            sum(part[name].numel() for name in ("input_ids", "prompt_ids") if name in part)
            for part in batch
        ]

    def within(self, passes: int) -> float:
        return sum(self.sizes[:passes]) / sum(self.sizes)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if trainer.is_global_zero:
            self.read += sum(self.sizes)
            share = (self.done + 1) / self.total - self.first
            self.part.cost = self.part.cost.with_tokens(self.read / share)
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
