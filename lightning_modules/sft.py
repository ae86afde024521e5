"""Supervised fine-tuning: the policy imitates demonstrations, and becomes the reference."""

import torch
from torch import Tensor

from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.metrics.averages import Averages
from lightning_modules.objectives.masked import masked
from lightning_modules.supervised import Batch, SupervisedModule


class SFT(SupervisedModule):
    """Maximum likelihood of the responses' tokens, stop token included."""

    def weight(self, part: Batch) -> Tensor:
        return part["response_mask"].sum()

    def losses(self, part: Batch) -> tuple[Tensor, Averages]:
        """-log pi over the tokens of the responses."""
        mask = part["response_mask"]
        # Logits from where the first response of the micro-batch begins.
        start = int(mask.any(0).long().argmax())
        outputs, _ = response_outputs(
            self.model,
            part["input_ids"],
            part["attention_mask"][:, :start],
            part["attention_mask"][:, start:],
            temperature=1.0,
        )
        loss = -masked(outputs.logprobs, mask[:, start:]).sum()
        averages = Averages()
        averages.add("loss", loss, mask.sum())
        return loss, averages

    def on_validation_epoch_start(self) -> None:
        self._val = Averages()

    def validation_step(self, batch: list[Batch], batch_idx: int) -> None:
        for part in batch:
            self._val.merge(self.losses(part)[1])

    def on_validation_epoch_end(self) -> None:
        # Every rank has all held-out rows, so there is nothing to gather.
        means = self._val.means(torch.clone)
        self.log_dict({f"val/{k}": v for k, v in means.items()})
