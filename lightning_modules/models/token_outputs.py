"""What a language model says of sampled tokens: log-probabilities, entropies, hidden states.

Index convention: s_t is the prompt and the first t response tokens; its logits and its value sit at
position P-1+t of the sequence. Only these T positions get logits.
"""

import inspect
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.models.adapters import plain
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


def cache_name(model: nn.Module) -> str:
    """What a model's forward calls its cache: newer versions of Transformers have renamed it, and
    some architectures take any name without a word.
    """
    return "cache" if "cache" in _parameters(type(plain(model))) else "past_key_values"


@lru_cache
def _parameters(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


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


def last_hidden(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The backbone's last hidden states, (B, S, D), without a head's outputs."""
    # Where padding is on the right alone, causality keeps it from every real token: without a mask
    # attention is faster, and none of size S x S is held.
    right_padded = bool(attention_mask[:, 0].all())
    return (
        plain(model)
        .base_model(
            input_ids=input_ids,
            attention_mask=None if right_padded else attention_mask,
            position_ids=position_ids(attention_mask),
            use_cache=False,
        )
        .last_hidden_state
    )
