"""Supervised fine-tuning: the policy imitates demonstrations, and becomes the reference."""

from collections.abc import Callable
from typing import Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.actor_critic import response_outputs
from lightning_modules.objectives.masked import masked
from lightning_modules.options import require, require_at_least


class SupervisedModule(pl.LightningModule):
    """What SFT and the reward model share: options, optimiser, and a learning rate that decays."""

    def __init__(
        self,
        *,
        name: str,
        epochs: int,
        batch_size: int,
        max_grad_norm: float | None,
        optimizer: Callable[..., torch.optim.Optimizer],
        warmup: float,
    ):
        super().__init__()
        require_at_least(1, "algo", epochs=epochs, batch_size=batch_size)
        require(0 <= warmup < 1, "algo.warmup", warmup, "must lie in [0, 1)")
        self.name = name
        self.epochs = epochs
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        self.optimizer = optimizer
        self.warmup = warmup

    def bind(self, model: nn.Module, lr_multiplier: float = 1.0) -> Self:
        """Hand over the model to train."""
        self.model = model.train()
        self.lr_multiplier = lr_multiplier
        return self

    def configure_optimizers(self) -> dict:
        """Linear warm-up for a share `warmup` of the steps, then linear decay to 0."""
        lr = self.optimizer.keywords["lr"] * self.lr_multiplier
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = self.optimizer([{"params": parameters, "lr": lr}])
        total = max(1, int(self.trainer.estimated_stepping_batches))
        rising = max(1, round(self.warmup * total))

        def factor(step: int) -> float:
            return min((step + 1) / rising, (total - step) / max(1, total - rising + 1))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class SFT(SupervisedModule):
    """Maximum likelihood of the answers' tokens, stop token included."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss, _ = self._loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss, tokens = self._loss(batch)
        self.log("val/loss", loss, batch_size=tokens, sync_dist=True)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Mean -log pi over the tokens of the answers, and how many those are."""
        mask = batch["response_mask"]
        # Logits from where the first answer of the batch begins.
        start = int(mask.any(0).long().argmax())
        outputs, _ = response_outputs(
            self.model,
            batch["input_ids"],
            batch["attention_mask"][:, :start],
            batch["attention_mask"][:, start:],
            temperature=1.0,
        )
        return -masked(outputs.logprobs, mask[:, start:]).sum() / mask.sum(), int(mask.sum())
