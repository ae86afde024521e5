"""What SFT and the reward model share: optimiser, learning rate, the step."""

from abc import abstractmethod
from math import isnan
from typing import Any, Self

import torch
from torch import Tensor, nn

from lightning_modules.forward.within_memory import out_of_memory
from lightning_modules.manual import ManualModule
from lightning_modules.metrics.averages import Averages
from lightning_modules.options.supervised import SupervisedOptions
from lightning_modules.rollouts.seeding import Stream, generator
from lightning_modules.trained_weights import TrainedWeightsOnly

Batch = dict[str, Tensor]


class SupervisedModule(TrainedWeightsOnly, ManualModule):
    """One training_step is one optimiser step on a batch: a list of micro-batches."""

    options_class = SupervisedOptions
    options: SupervisedOptions

    def __init__(self, **options: Any):
        super().__init__()
        self.options = self.options_class(**options)
        self.name = self.options.name

    def bind(self, model: nn.Module, seed: int = 0) -> Self:
        """Hand over the model to train; `seed` is that of dropout, for a model that has some."""
        self.model = model.train()
        self.seed = seed
        return self

    @abstractmethod
    def weight(self, part: Batch) -> Tensor | float:
        """What the loss of a micro-batch is a mean over: how many tokens, or comparisons."""

    @abstractmethod
    def losses(self, part: Batch) -> tuple[Tensor, Averages]:
        """The sum of the losses of a micro-batch, and its metrics, without a prefix."""

    def on_train_batch_start(self, batch: list[Batch], batch_idx: int) -> None:
        # Dropout is a function of the step, whatever was drawn before it.
        noise = generator(self.seed, Stream.DROPOUT, self.global_step, self.global_rank)
        on_gpu = self.device.type == "cuda"
        seeded = torch.cuda.manual_seed if on_gpu else torch.default_generator.manual_seed
        seeded(noise.initial_seed())

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        weights = torch.stack([torch.as_tensor(self.weight(p), dtype=torch.float64) for p in batch])
        divisor = self.sum_over_ranks(weights.sum()).float()
        averages = Averages()
        try:
            for i, part in enumerate(batch):
                loss, metrics = self.losses(part)
                self.accumulate(loss / divisor, last=i + 1 == len(batch))
                averages.merge(metrics)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.limit, error) from error
        optimizer = self.optimizers()
        norm = self.clipped_step(optimizer, self.options.max_grad_norm)
        lr = optimizer.param_groups[0]["lr"]
        self.lr_schedulers().step()
        means = averages.means(self.sum_over_ranks)
        # Of a kind of feedback that is not in the batch nothing is known.
        known = {f"train/{k}": v for k, v in means.items() if not isnan(v)}
        self.log_dict(known, prog_bar=True)
        self.log_dict({"train/grad_norm": norm, "train/lr": lr})

    def configure_optimizers(self) -> dict:
        """Linear warm-up for a share `warmup` of the steps, then linear decay to 0."""
        lr = self.options.optimizer.keywords["lr"]
        optimizer = self.options.optimizer([{"params": self.trained_parameters(), "lr": lr}])
        total = max(1, int(self.trainer.estimated_stepping_batches))
        rising = max(1, round(self.options.warmup * total))

        def factor(step: int) -> float:
            return min((step + 1) / rising, (total - step) / max(1, total - rising + 1))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
