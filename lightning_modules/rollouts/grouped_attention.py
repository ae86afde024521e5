"""Attention whose queries share keys in groups, for versions of Transformers that copy the keys."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SDPA = "sdpa"


@contextmanager
def keys_not_repeated() -> Iterator[None]:
    """Within, PyTorch's attention reads the keys and values of a cache where they are.

    Transformers copies them for every query that shares them, at every layer and token, where there
    is a mask; from 5.24 on it does not for single tokens, and nothing is changed here.
    """
    if hasattr(sdpa_attention, "pack_gqa"):
        yield
        return
    ALL_ATTENTION_FUNCTIONS[SDPA] = partial(_grouped, ALL_ATTENTION_FUNCTIONS[SDPA])
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[SDPA]  # the library's own is behind it


def _grouped(
    usual: Callable[..., tuple[Tensor, None]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Queries (B, H, 1, D) that share a key stand beside each other as the rows of one product."""
    batch, heads, length, width = query.shape
    if length > 1 or heads == key.shape[1] or options.get("position_bias") is not None:
        return usual(module, query, key, value, attention_mask, scaling=scaling, **options)
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], -1, width),
        key,
        value,
        attn_mask=attention_mask,
        scale=scaling,
    )
    return attended.reshape(batch, 1, heads, -1), None
