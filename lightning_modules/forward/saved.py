"""What a forward pass saves for its backward pass: counted, so that it holds for any architecture,
adapter and precision.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.forward.checkpointing import (
    can_checkpoint,
    depth,
    is_checkpointed,
    set_checkpointing,
)
from lightning_modules.forward.packed_parameters import held


class Growth(NamedTuple):
    """Bytes whatever the number of rows, and more for each of them."""

    fixed: int
    each: int

    @classmethod
    def through(cls, one: int, two: int) -> "Growth":
        """From what one row and what two need."""
        return cls(max(2 * one - two, 0), two - one)

    def of(self, rows: int) -> int:
        return self.fixed + rows * self.each


def saved_growth(
    model: nn.Module, forward: Callable[[int], Iterable[object]]
) -> tuple[Growth, Growth]:
    """What `forward` of so many rows saves for its backward pass, from one row and two: with
    activations kept, and with checkpointing. Of several passes that it goes through, each with a
    backward pass of its own, the largest one counts.
    """
    one, two = (_saved(model, partial(forward, rows)) for rows in (1, 2))
    kept, checkpointed = zip(one, two, strict=True)
    return Growth.through(*kept), Growth.through(*checkpointed)


def _saved(model: nn.Module, forward: Callable[[], Iterable[object]]) -> tuple[int, int]:
    """Bytes that a forward pass saves for its backward pass, without weights: with activations
    kept, and with checkpointing.

    The first follows from what one layer more adds where all others are checkpointed, so that to
    find out takes little memory. Layers are taken to be alike.
    """
    if not can_checkpoint(model):
        saved = saved_bytes(model, forward)
        return saved, saved
    was = is_checkpointed(model)
    try:
        set_checkpointing(model, True, kept=1)
        checkpointed = saved_bytes(model, forward)
        set_checkpointing(model, True, kept=2)
        layer = saved_bytes(model, forward) - checkpointed
    finally:
        set_checkpointing(model, was)
    return checkpointed + (depth(model) - 1) * layer, checkpointed


def saved_bytes(model: nn.Module, forward: Callable[[], Iterable[object]]) -> int:
    """Bytes that a forward pass saves for its backward pass as the model is, without weights."""
    tensors = (part for x in model.parameters() for part in held(x))
    weights = {x.untyped_storage().data_ptr() for x in tensors}
    saved: dict[int, int] = {}

    def remember(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return x

    largest = 0
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(remember, lambda x: x):
        for (
            outputs
        ) in forward():  # they hold the graph, and that the storages, until all are counted
            largest = max(largest, sum(saved.values()))
            saved.clear()
            del outputs
    return largest
