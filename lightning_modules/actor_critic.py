"""What a model says about sampled tokens: log-probabilities, entropies, values, scores.

Index convention: s_t is the prompt and the first t response tokens; its logits and its value sit at
position P-1+t of the sequence. Only these T positions get logits.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from lightning_modules.objectives.masked import masked


class TokenOutputs(NamedTuple):
    """Per response token, (B, T), at least float32, 0 where the response mask is False."""

    logprobs: Tensor
    entropy: Tensor | None
    values: Tensor | None


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions that count real tokens only, (B, S), so that padding on the left shifts nothing."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def response_outputs(
    lm: nn.Module,
    sequences: Tensor,
    prompt_mask: Tensor,
    response_mask: Tensor,
    temperature: float,
    *,
    entropy: bool = False,
    hidden: bool = False,
) -> tuple[TokenOutputs, Tensor | None]:
    """Log-probabilities of the response tokens of `sequences` (B, P+T), and entropies if asked.

    The distribution is that of the sampler: logits / temperature, log-softmax in float32. With
    `hidden`, also the last hidden states of s_0 .. s_{T-1}, shape (B, T, D).
    """
    prompt_length = prompt_mask.shape[1]
    attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
    states = torch.arange(prompt_length - 1, sequences.shape[1] - 1, device=sequences.device)
    outputs = lm(
        input_ids=sequences,
        attention_mask=attention_mask,
        position_ids=position_ids(attention_mask),
        logits_to_keep=states,
        output_hidden_states=hidden,
        use_cache=False,
    )
    logits = at_least_float32(outputs.logits) / temperature
    normaliser = logits.logsumexp(-1)
    actions = sequences[:, prompt_length:, None]
    logprobs = logits.gather(-1, actions).squeeze(-1) - normaliser
    entropies = None
    if entropy:
        expected_logit = (torch.softmax(logits, dim=-1) * logits).sum(-1)
        entropies = masked(normaliser - expected_logit, response_mask)
    last_hidden = outputs.hidden_states[-1][:, states] if hidden else None
    return TokenOutputs(masked(logprobs, response_mask), entropies, None), last_hidden


class ScalarModel(nn.Module):
    """One number per position from a Hugging Face sequence-classification model.

    A reward model reads it at the last real token, a critic at every state.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scalars, at least float32, shape (B, S)."""
        plain = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        trunk = plain.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids(attention_mask),
            use_cache=False,
        )
        return at_least_float32(plain.score(trunk.last_hidden_state).squeeze(-1))

    def score(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The scalar at the last real token, shape (B,), whatever side the padding is on."""
        scalars = self(input_ids, attention_mask)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).argmax(-1, keepdim=True)
        return scalars.gather(1, last).squeeze(1)


class ActorCritic(nn.Module):
    """The policy, and the value function if the algorithm has one.

    `value_head` reads the policy's own hidden states; `critic` is a network of its own. At most one
    of the two is there.
    """

    def __init__(self, lm: nn.Module, value_head: nn.Linear | None, critic: ScalarModel | None):
        super().__init__()
        self.lm = lm
        self.value_head = value_head
        self.critic = critic

    def forward(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        temperature: float,
        entropy: bool = False,
    ) -> TokenOutputs:
        outputs, hidden = response_outputs(
            self.lm,
            sequences,
            prompt_mask,
            response_mask,
            temperature,
            entropy=entropy,
            hidden=self.value_head is not None,
        )
        values = self._values(hidden, sequences, prompt_mask, response_mask)
        return outputs._replace(values=values)

    def _values(
        self, hidden: Tensor | None, sequences: Tensor, prompt_mask: Tensor, response_mask: Tensor
    ) -> Tensor | None:
        if self.value_head is not None:
            # Returns are small differences of numbers: the head works in float32 under autocast.
            with torch.autocast(hidden.device.type, enabled=False):
                states = hidden.to(self.value_head.weight.dtype)
                values = self.value_head(states).squeeze(-1)
        elif self.critic is not None:
            attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
            values = self.critic(sequences, attention_mask)[:, prompt_mask.shape[1] - 1 : -1]
        else:
            return None
        return masked(values, response_mask)

    def value_parameters(self) -> list[nn.Parameter]:
        """The trained parameters that only the value function uses."""
        module = self.value_head or self.critic
        return [p for p in module.parameters() if p.requires_grad] if module else []


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
            return _adapters_off(self._lm)
        return nullcontext(self._lm)

    @torch.no_grad()
    def logprobs(
        self, sequences: Tensor, prompt_mask: Tensor, response_mask: Tensor, temperature: float
    ) -> Tensor:
        """Log-probabilities (B, T) of the response tokens under the reference."""
        with self.active() as lm:
            outputs, _ = response_outputs(lm, sequences, prompt_mask, response_mask, temperature)
        return outputs.logprobs


@contextmanager
def _adapters_off(lm: PeftModel) -> Iterator[PeftModel]:
    with lm.disable_adapter():
        yield lm
