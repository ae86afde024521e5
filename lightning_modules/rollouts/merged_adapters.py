"""Adapters folded into the weights while responses are sampled."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

# Quantised weights have other dtypes: merging would round them, so their adapters stay beside them.
MERGED_INTO = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@contextmanager
def adapters_merged(lm: nn.Module) -> Iterator[None]:
    """The active adapters of `lm` are part of its weights: a token needs no products of theirs.

    The weights merged into are others, and those before come back to the bit. It takes as much
    memory again as the layers that have adapters. Nothing may be trained within.
    """
    layers = mergeable(lm)
    before = [(p, p.data) for layer in layers for p in layer.get_base_layer().parameters()]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.merge(safe_merge=True)
        yield
    finally:
        for parameter, data in before:
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def mergeable(lm: nn.Module) -> list[BaseTunerLayer]:
    """The layers whose adapters are on and can be merged: weights that no other layer has too."""
    owners = Counter(id(p) for m in lm.modules() for p in m._parameters.values() if p is not None)
    return [
        layer
        for layer in lm.modules()
        if isinstance(layer, BaseTunerLayer)
        and not layer.disable_adapters
        and all(
            p.dtype in MERGED_INTO and owners[id(p)] == 1
            for p in layer.get_base_layer().parameters()
        )
    ]


def merged_bytes(lm: nn.Module) -> int:
    """What merging takes: the weights merged into."""
    weights = (p for layer in mergeable(lm) for p in layer.get_base_layer().parameters())
    return sum(p.numel() * p.element_size() for p in weights)
