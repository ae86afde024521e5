"""The policy and its value function as one module: log-probabilities and values of each token."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.forward.last_layer import last_layer_from, read_until
from lightning_modules.forward.passes import plain
from lightning_modules.forward.shared_prompts import (
    SharedPrompt,
    hidden_states,
    read_for_states,
    shared_prompt,
)
from lightning_modules.forward.token_outputs import TokenOutputs, response_outputs
from lightning_modules.models.adapters import active_adapters, adapter_parameters
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.objectives.masked import masked


class ActorCritic(nn.Module):
    """The policy, and the value function if the algorithm has one.

    `value_head` reads the policy's own hidden states or, with `value_adapter`, those of the same
    backbone with that adapter in the place of the policy's; `critic` is a network of its own, or
    one on the policy's weights whose trained adapter is `value_adapter`. At most one of head and
    critic is there.
    """

    def __init__(
        self,
        lm: nn.Module,
        value_head: nn.Linear | None = None,
        critic: ScalarModel | None = None,
        value_adapter: str | None = None,
    ):
        super().__init__()
        self.lm = lm
        self.value_head = value_head
        self.critic = critic
        self.value_adapter = value_adapter

    @property
    def kind(self) -> str | None:
        """Which kind of critic there is, as algo.critic has it; None without one."""
        if self.critic is not None:
            return "copy"
        if self.value_head is None:
            return None
        return "head" if self.value_adapter is None else "adapter"

    def forward(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        temperature: float,
        entropy: bool = False,
        prompt_of: Tensor | None = None,
    ) -> TokenOutputs:
        """What policy and value function say of responses, (B, T) each. `prompt_of` (B,) numbers
        the prompt of each row: rows of one prompt go through it once.
        """
        prompt = shared_prompt(sequences[:, : prompt_mask.shape[1]], prompt_mask, prompt_of)
        outputs, hidden = response_outputs(
            self.lm,
            sequences,
            prompt_mask,
            response_mask,
            temperature,
            prompt=prompt,
            entropy=entropy,
            hidden=self.shares_states,
        )
        if self.shares_states:
            values = masked(self._head(hidden), response_mask)
        else:
            values = self._values(sequences, prompt_mask, response_mask, prompt)
        return outputs._replace(values=values)

    @property
    def shares_states(self) -> bool:
        """Whether values are read off the hidden states that give the log-probabilities."""
        return self.value_head is not None and self.value_adapter is None

    @property
    def values_have_a_pass(self) -> bool:
        """Whether values come of a pass of their own."""
        return self.kind is not None and not self.shares_states

    def passes(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        temperature: float,
        entropy: bool = False,
        prompt_of: Tensor | None = None,
    ) -> Iterator[TokenOutputs]:
        """What `forward` says, in parts whose gradients add up to its own: once it is used, the
        graph of the one is gone before there is that of the next.

        A value function with hidden states of its own comes after the policy, and each of the two
        is a constant where it is the other's turn. In a loss that is a sum of both, nothing else
        changes.
        """
        inputs = (sequences, prompt_mask, response_mask)
        if not self.values_have_a_pass:
            yield self(*inputs, temperature, entropy=entropy, prompt_of=prompt_of)
            return
        prompt = shared_prompt(sequences[:, : prompt_mask.shape[1]], prompt_mask, prompt_of)
        policy, _ = response_outputs(self.lm, *inputs, temperature, prompt=prompt, entropy=entropy)
        constant = TokenOutputs(*(None if x is None else x.detach() for x in policy))
        yield policy._replace(values=torch.zeros_like(constant.logprobs))
        del policy
        yield constant._replace(values=self._values(*inputs, prompt))

    def values(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None = None,
    ) -> Tensor | None:
        """V(s_0) .. V(s_{T-1}), (B, T), or None; only `value_parameters` get gradients from it."""
        prompt = shared_prompt(sequences[:, : prompt_mask.shape[1]], prompt_mask, prompt_of)
        return self._values(sequences, prompt_mask, response_mask, prompt)

    def _values(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt: SharedPrompt | None,
    ) -> Tensor | None:
        if self.kind is None:
            return None
        if prompt is not None:
            read = read_for_states(prompt, sequences, response_mask)
            return masked(self._states_valued(*read), response_mask)
        start = prompt_mask.shape[1] - 1
        mask = torch.cat([prompt_mask, response_mask], dim=1)
        with last_layer_from(self._values_from, start) as skipped:
            end = read_until(skipped)
            values = self._states_valued(sequences[:, :end], mask[:, :end])
        values = values[:, start - skipped :][:, : response_mask.shape[1]]
        return masked(values, response_mask)

    def _states_valued(self, *read: Any) -> Tensor:
        """V after each place of what is read (hidden_states), if there is a value function."""
        if self.critic is not None:
            return self.critic(*read)
        if self.value_adapter is not None:
            with active_adapters(self.lm, self.value_adapter):
                return self._head(hidden_states(self.lm, *read))
        with torch.no_grad():
            hidden = hidden_states(self.lm, *read)
        return self._head(hidden)

    @property
    def _values_from(self) -> nn.Module:
        """The model that gives the hidden states that are valued."""
        return self.lm if self.critic is None else self.critic.network

    def _head(self, hidden: Tensor) -> Tensor:
        # Returns are small differences of numbers: the head works in float32 under autocast.
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)

    def value_parameters(self) -> list[nn.Parameter]:
        """The trained parameters that only the value function uses."""
        own = [m for m in (self.value_head, self.critic) if m is not None]
        parameters = [p for module in own for p in module.parameters() if p.requires_grad]
        if self.value_adapter is not None:
            parameters += adapter_parameters(self.lm, self.value_adapter)
        return parameters


def new_value_head(lm: nn.Module) -> nn.Linear:
    """A head on the policy's hidden states that values every state 0 to begin with, float32.

    As wide as what the policy's own head reads: OPT-350M's is narrower than its layers.
    """
    head = nn.Linear(plain(lm).get_output_embeddings().weight.shape[-1], 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
