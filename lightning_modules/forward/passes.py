"""Calling a Hugging Face model: what it is under its adapters, positions, cache, hidden states."""

import inspect
from functools import lru_cache

import torch
from peft import PeftModel
from torch import Tensor, nn

# How far rounding takes hidden states as a share of them, and log-probabilities on average; in 16
# bits it may also send a token to another expert.
ROUNDING, ROUNDING_16_BITS = 1e-3, 0.1


def plain(model: nn.Module) -> nn.Module:
    """The Hugging Face model; adapters, if any, live in its layers."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def rounding_in(model: nn.Module) -> float:
    """How far rounding may take what a model computes, as it runs here."""
    parameters = list(model.parameters())
    in_16_bits = any(p.dtype in (torch.bfloat16, torch.float16) for p in parameters)
    coarse = in_16_bits or torch.is_autocast_enabled(parameters[0].device.type)
    return ROUNDING_16_BITS if coarse else ROUNDING


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
