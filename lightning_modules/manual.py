"""What all modules share: gradients gathered over micro-batches, and one clipped optimiser step.

Lightning's automatic optimisation makes one backward pass a step. Here a step is as large as the
algorithm says and a forward pass as large as memory allows, and the one does not change the other.
"""

from contextlib import AbstractContextManager, nullcontext

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn

from lightning_modules.errors import TrainingError
from lightning_modules.forward.within_memory import out_of_memory


class ManualModule(pl.LightningModule):
    """Manual optimisation of `self.model`, the same on any number of ranks."""

    automatic_optimization = False
    limit = "micro_batch_tokens"  # the option by which a pass takes less memory

    def accumulate(self, loss: Tensor, *, last: bool) -> None:
        """Backward pass of a part of an optimiser step; `last` is its last part on this rank.

        `loss` is divided by what the step holds on all ranks, so that gradients need only be added.
        """
        try:
            with nullcontext() if last else self.without_sync():
                # DDP averages gradients over ranks, where the divisor counts those of all ranks.
                self.manual_backward(loss * self.trainer.world_size)
        except torch.OutOfMemoryError as error:
            if last and self.trainer.world_size > 1:
                # Other ranks have parts of this gradient: the step cannot be begun anew.
                raise out_of_memory(self.limit, error) from error
            raise

    def clipped_step(
        self,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float | None,
        parameters: list[nn.Parameter] | None = None,
    ) -> Tensor:
        """Clip, step, clear; returns the norm of the gradient before clipping."""
        norm = nn.utils.clip_grad_norm_(
            parameters or self.trained_parameters(), max_grad_norm or float("inf")
        )
        if not norm.isfinite():
            raise TrainingError(self.not_finite())
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def not_finite(self) -> str:
        """What to say when a gradient is not finite."""
        return (
            f"{self.name}, step {self.global_step + 1}: the gradient is not finite. A lower"
            " optimizer.lr or a smaller max_grad_norm may help"
        )

    def sum_over_ranks(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all ranks; every rank must call this equally often."""
        if self.trainer.world_size == 1:
            return x
        return self.trainer.strategy.reduce(x.to(self.device), reduce_op="sum").to(x.device)

    def without_sync(self) -> AbstractContextManager:
        """Leave the reduction of gradients over ranks to the step's last micro-batch."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy):
            return strategy.block_backward_sync()
        return nullcontext()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Those of the model that take gradients."""
        return [p for p in self.model.parameters() if p.requires_grad]
