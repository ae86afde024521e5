"""What a language model says of sampled tokens: log-probabilities, entropies, hidden states.

Index convention: s_t is the prompt and the first t response tokens; its logits and its value sit at
position P-1+t of the sequence. Only these T positions get logits.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.forward.heads import states_only
from lightning_modules.forward.last_layer import last_layer_from, read_until
from lightning_modules.forward.log_probs import chunked_head, token_log_probs
from lightning_modules.forward.passes import at_least_float32, position_ids
from lightning_modules.forward.shared_prompts import SharedPrompt, continuing, read_for_states
from lightning_modules.objectives.masked import masked


class TokenOutputs(NamedTuple):
    """Per response token, (B, T), at least float32, 0 where the response mask is False."""

    logprobs: Tensor
    entropy: Tensor | None
    values: Tensor | None


def response_outputs(
    lm: nn.Module,
    sequences: Tensor,
    prompt_mask: Tensor,
    response_mask: Tensor,
    temperature: float,
    *,
    prompt: SharedPrompt | None = None,
    entropy: bool = False,
    hidden: bool = False,
) -> tuple[TokenOutputs, Tensor | None]:
    """Log-probabilities of the response tokens of `sequences` (B, P+T), and entropies if asked.

    The distribution is that of the sampler: logits / temperature, log-softmax in float32. With
    `hidden`, also the last hidden states of s_0 .. s_{T-1}, shape (B, T, D). Where all logits
    would be too many to hold, they are made in chunks (log_probs.py). `prompt`: the prompts of
    these rows, which then go through the model once for all their responses.
    """
    actions = sequences[:, prompt_mask.shape[1] :]
    head = chunked_head(lm, actions.numel())
    start = prompt_mask.shape[1] - 1 if prompt is None else 0
    with (
        nullcontext() if head is None else states_only(head.linear) as states,
        last_layer_from(lm, start) as skipped,
    ):
        given = _reading(lm, sequences, prompt_mask, response_mask, prompt, end=read_until(skipped))
        places = torch.arange(actions.shape[1], device=actions.device) + start - skipped
        outputs = lm(**given, logits_to_keep=places, output_hidden_states=hidden)
    if head is None:
        found = _of_logits(outputs.logits, actions, temperature, entropy=entropy)
        logprobs, entropies = (x if x is None else masked(x, response_mask) for x in found)
    else:
        real = response_mask.nonzero(as_tuple=True)
        found = token_log_probs(states[0][real], actions[real], head, temperature, entropy=entropy)
        empty = torch.zeros_like(response_mask, dtype=found[0].dtype)
        logprobs, entropies = (x if x is None else empty.index_put(real, x) for x in found)
    last_hidden = outputs.hidden_states[-1][:, places] if hidden else None
    return TokenOutputs(logprobs, entropies, None), last_hidden


def _reading(
    lm: nn.Module,
    sequences: Tensor,
    prompt_mask: Tensor,
    response_mask: Tensor,
    prompt: SharedPrompt | None,
    end: int | None,
) -> dict[str, Any]:
    """What the model is given: its output on s_0 .. s_{T-1} is that on T places in a row."""
    if prompt is not None:
        ids, mask, before = read_for_states(prompt, sequences, response_mask)
        return continuing(lm, before, ids, mask)
    attention_mask = torch.cat([prompt_mask, response_mask], dim=1)[:, :end]
    return {
        "input_ids": sequences[:, :end],
        "attention_mask": attention_mask,
        "position_ids": position_ids(attention_mask),
        "use_cache": False,
    }


def _of_logits(
    logits: Tensor, actions: Tensor, temperature: float, *, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of actions (B, T) and entropies from logits (B, T, V)."""
    logits = at_least_float32(logits)
    if temperature != 1:  # dividing by 1 would copy them all
        logits = logits / temperature
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, actions[..., None]).squeeze(-1) - normaliser
    if not entropy:
        return logprobs, None
    expected_logit = (torch.softmax(logits, dim=-1) * logits).sum(-1)
    return logprobs, normaliser - expected_logit
