"""The reference policy, from which KL is measured."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from lightning_modules.forward.shared_prompts import shared_prompt
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.adapters import adapters_off


class Reference:
    """The frozen policy from which KL is measured: the policy's base with its adapters off, or a
    copy. It is no nn.Module, so it is not trained, not checkpointed and never put in train mode.
    """

    def __init__(self, lm: nn.Module, *, shares_policy: bool):
        self._lm = lm
        self.shares_policy = shares_policy

    def to(self, device: torch.device) -> None:
        if not self.shares_policy:
            self._lm.to(device)

    def active(self) -> AbstractContextManager[nn.Module]:
        """A context in which the returned model is the reference."""
        if self.shares_policy:
            return adapters_off(self._lm)
        return nullcontext(self._lm)

    @torch.no_grad()
    def logprobs(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        temperature: float,
        prompt_of: Tensor | None = None,
    ) -> Tensor:
        """Log-probabilities (B, T) of the response tokens under the reference; `prompt_of` (B,)
        numbers the prompt of each row.
        """
        prompt = shared_prompt(sequences[:, : prompt_mask.shape[1]], prompt_mask, prompt_of)
        with self.active() as lm:
            outputs, _ = response_outputs(
                lm, sequences, prompt_mask, response_mask, temperature, prompt=prompt
            )
        return outputs.logprobs
