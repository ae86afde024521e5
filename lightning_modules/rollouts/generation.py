"""Sampling responses: one prefill a prompt, a KV cache, and finished rows leave the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lightning_modules.forward.passes import cache_name, position_ids


def sample_tokens(logits: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """One token a row from softmax(logits / temperature), by inverting its distribution function.

    `uniforms` (B,) in [0, 1) decide: the same number gives the same token whatever rows are beside
    it, so sampling does not depend on batching. In float64, whose rounding no sample size sees.
    """
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    cumulative = probabilities.cumsum(-1)
    # Scaled by the total, which rounding leaves next to 1, so that no uniform falls off the end.
    targets = uniforms[:, None] * cumulative[:, -1:]
    return (
        torch.searchsorted(cumulative, targets, right=True)
        .squeeze(1)
        .clamp_(max=logits.shape[-1] - 1)
    )


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
) -> tuple[Tensor, Tensor]:
    """Responses to left-padded prompts: `sequences` (B, P+T) and `response_mask` (B, T).

    `prompt_ids`, `prompt_mask`: (N, P). `uniforms`: (B, T_max), the noise, where B = k N gives
    every prompt k responses, which stand beside each other. T <= T_max is the longest response. A
    response ends with `stop_id`, or with the first of several; one that does not stop by itself is
    cut at T_max, and no stop token is written into it.
    """
    batch, limit = uniforms.shape
    samples = batch // len(prompt_ids)
    cache = DynamicCache()
    logits = _forward(lm, prompt_ids, prompt_mask, position_ids(prompt_mask), cache)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits = logits.repeat_interleave(samples, 0)
        prompt_ids = prompt_ids.repeat_interleave(samples, 0)
        prompt_mask = prompt_mask.repeat_interleave(samples, 0)

    responses = torch.full((batch, limit), pad_id, dtype=torch.long, device=prompt_ids.device)
    lengths = torch.full((batch,), limit, dtype=torch.long, device=prompt_ids.device)
    rows = torch.arange(batch, device=prompt_ids.device)
    stops = torch.as_tensor(stop_id, device=prompt_ids.device)
    attention_mask, positions = prompt_mask, prompt_mask.long().sum(-1, keepdim=True)
    for t in range(limit):
        tokens = sample_tokens(logits, temperature, uniforms[rows, t])
        responses[rows, t] = tokens
        stopped = torch.isin(tokens, stops)
        lengths[rows[stopped]] = t + 1
        if t + 1 == limit or stopped.all():
            break
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(rows), 1)], dim=1)
        if stopped.any():
            going = (~stopped).nonzero().squeeze(1)
            cache.batch_select_indices(going)
            rows, tokens = rows[going], tokens[going]
            attention_mask, positions = attention_mask[going], positions[going]
        logits = _forward(lm, tokens[:, None], attention_mask, positions + t, cache)

    longest = int(lengths.max())
    response_mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return torch.cat([prompt_ids, responses[:, :longest]], dim=1), response_mask


def _forward(
    lm: nn.Module, ids: Tensor, attention_mask: Tensor, positions: Tensor, cache: DynamicCache
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
