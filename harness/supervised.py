"""Training SFT and reward models, as stages of a larger run or as a run of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger

from harness.trainer import make_trainer
from lightning_modules.supervised import SupervisedModule


class KeepBest(Callback):
    """Ends training with the weights of the epoch whose held-out loss was lowest."""

    def __init__(self):
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: SupervisedModule) -> None:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if not self.metrics or metrics["val/loss"] < self.metrics["val/loss"]:
            self.metrics = metrics
            self.weights = {
                name: p.detach().cpu().clone()
                for name, p in pl_module.model.named_parameters()
                if p.requires_grad
            }

    def on_train_end(self, trainer: pl.Trainer, pl_module: SupervisedModule) -> None:
        pl_module.model.load_state_dict(self.weights, strict=False)

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.weights = state["metrics"], state["weights"]


def fit_supervised(
    module: SupervisedModule,
    data: LightningDataModule,
    hardware: DictConfig,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    resume_from: Path | None = None,
) -> dict[str, float]:
    """Train, keep the best epoch, and return its metrics. With `checkpoints`, one is saved after
    every epoch, to resume from.
    """
    best = KeepBest()
    saving = []
    if checkpoints:
        saving = [ModelCheckpoint(checkpoints, "epoch-{epoch:05d}", auto_insert_metric_name=False)]
    trainer = make_trainer(
        hardware,
        max_epochs=module.epochs,
        logger=list(loggers),
        callbacks=[best, *callbacks, *saving],
        enable_checkpointing=bool(checkpoints),
    )
    trainer.fit(
        module, datamodule=data, ckpt_path=resume_from, weights_only=True if resume_from else None
    )
    return best.metrics
