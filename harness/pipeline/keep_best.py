"""The weights at which a held-out metric was best, kept and put back at the end."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from harness.errors import RunError
from lightning_modules.options.require import require


class KeepBest(Callback):
    """Ends training with the weights at which a held-out metric was best; `metrics` are those
    weights'.
    """

    def __init__(self, metric: str = "val/loss", *, highest: bool = False):
        require(
            metric.startswith("val/"),
            "callbacks.keep_best",
            metric,
            "must be a held-out metric, such as val/gold or val/score",
        )
        self.metric = metric
        self.sign = 1 if highest else -1
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if self.metric not in metrics:
            known = ", ".join(sorted(k for k in metrics if k.startswith("val/")))
            raise RunError(
                f"callbacks.keep_best={self.metric}: there is no such metric but {known}"
            )
        best = self.metrics.get(self.metric)
        if best is None or self.sign * (metrics[self.metric] - best) > 0:
            self.epoch, self.metrics = trainer.current_epoch, metrics
            self.weights = {
                name: p.detach().cpu().clone()
                for name, p in pl_module.model.named_parameters()
                if p.requires_grad
            }

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Also where all had been trained before, and the training never began.
        pl_module.model.load_state_dict(self.weights, strict=False)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.metrics = state["epoch"], state["metrics"]
        self.weights = state["weights"]
