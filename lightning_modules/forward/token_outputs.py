"""What a language model says of sampled tokens: log-probabilities, entropies, hidden states.

Index convention: s_t is the prompt and the first t response tokens; its logits and its value sit at
position P-1+t of the sequence. Only these T positions get logits.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.forward.passes import at_least_float32, position_ids
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
