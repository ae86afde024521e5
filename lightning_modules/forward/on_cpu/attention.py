"""Attention on a CPU in bfloat16."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

# Up to so many tokens plain products are taken: the backward pass of PyTorch's flash attention has
# two to four times their cost there. Of longer sequences the weights of attention, which products
# keep, would take memory.
SHORT = 128


def short_by_products(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Transformers' own attention by PyTorch, computed in the way that is fast on a CPU.

    It looks at shapes and dtypes alone, so that a layer that is computed again does the same.
    """
    on_cpu = query.device.type == "cpu"
    in_bfloat16 = query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    short = query.shape[2] > 1 and key.shape[2] <= SHORT
    with sdpa_kernel(SDPBackend.MATH) if on_cpu and in_bfloat16 and short else nullcontext():
        return sdpa_attention_forward(module, query, key, value, *args, **kwargs)


def prepare_attention() -> None:
    """Let all models whose attention is `sdpa` compute it so."""
    AttentionInterface.register("sdpa", short_by_products)
