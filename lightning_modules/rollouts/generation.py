"""Sampling responses: one prefill a prompt, a KV cache, and finished rows leave the batch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from lightning_modules.forward.passes import cache_name, position_ids
from lightning_modules.rollouts.tokens import sample_tokens


class Sampled(NamedTuple):
    """Prompts and responses (B, P+T), what of the responses is real (B, T), and the sampler's
    log-probabilities of their tokens (B, T), 0 where nothing is.
    """

    sequences: Tensor
    response_mask: Tensor
    logprobs: Tensor


class Step(NamedTuple):
    """The next token of those rows (R,) of a batch that go on, their log-probabilities, and which
    of these tokens end their row.
    """

    rows: Tensor
    tokens: Tensor
    logprobs: Tensor
    stopped: Tensor


@torch.no_grad()
def generate(
    lm: nn.Module,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    uniforms: Tensor,
    *,
    temperature: float,
    stop_id: int | Sequence[int],
    pad_id: int,
) -> Sampled:
    """Responses to left-padded prompts.

    `prompt_ids`, `prompt_mask`: (N, P). `uniforms`: (B, T_max), the noise, where B = k N gives
    every prompt k responses, which stand beside each other. T <= T_max is the longest response. A
    response ends with `stop_id`, or with the first of several; one that does not stop by itself is
    cut at T_max, and no stop token is written into it.
    """
    batch, limit = uniforms.shape
    stops = torch.as_tensor(stop_id, device=prompt_ids.device)
    responses = torch.full((batch, limit), pad_id, dtype=torch.long, device=prompt_ids.device)
    logprobs = torch.zeros_like(uniforms)
    lengths = torch.full((batch,), limit, dtype=torch.long, device=prompt_ids.device)
    steps = token_by_token(lm, prompt_ids, prompt_mask, uniforms, temperature, stops)
    for t, (rows, tokens, said, stopped) in enumerate(steps):
        responses[rows, t], logprobs[rows, t] = tokens, said
        lengths[rows[stopped]] = t + 1

    longest = int(lengths.max())
    response_mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
    prompt_ids = prompt_ids.repeat_interleave(batch // len(prompt_ids), 0)
    sequences = torch.cat([prompt_ids, responses[:, :longest]], dim=1)
    return Sampled(sequences, response_mask, logprobs[:, :longest])


@torch.no_grad()
def token_by_token(
    lm: nn.Module,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    uniforms: Tensor,
    temperature: float,
    stops: Tensor,
) -> Iterator[Step]:
    """The tokens of `generate` as they are drawn, until all rows have stopped or reached T_max."""
    batch, limit = uniforms.shape
    samples = batch // len(prompt_ids)
    logits, cache = read_prompts(lm, prompt_ids, prompt_mask)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits = logits.repeat_interleave(samples, 0)
        prompt_mask = prompt_mask.repeat_interleave(samples, 0)
    rows = torch.arange(batch, device=prompt_ids.device)
    attention_mask, positions = prompt_mask, prompt_mask.long().sum(-1, keepdim=True)
    for t in range(limit):
        tokens, logprobs = sample_tokens(logits, temperature, uniforms[rows, t])
        stopped = torch.isin(tokens, stops)
        yield Step(rows, tokens, logprobs, stopped)
        if t + 1 == limit or stopped.all():
            break
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(rows), 1)], dim=1)
        if stopped.any():
            going = (~stopped).nonzero().squeeze(1)
            cache.batch_select_indices(going)
            rows, tokens = rows[going], tokens[going]
            attention_mask, positions = attention_mask[going], positions[going]
        logits = next_logits(lm, tokens[:, None], attention_mask, positions + t, cache)


def read_prompts(lm: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, DynamicCache]:
    """Logits (N, V) of the first token after each prompt, and the prompts' keys and values."""
    cache = DynamicCache()
    return next_logits(lm, ids, mask, position_ids(mask), cache), cache


def next_logits(
    lm: nn.Module, ids: Tensor, attention_mask: Tensor, positions: Tensor, cache: Cache
) -> Tensor:
    """Logits (B, V) after the last of `ids`; keys and values go into `cache`."""
    return lm(
        input_ids=ids,
        attention_mask=attention_mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
        **{cache_name(lm): cache},
    ).logits[:, -1]
