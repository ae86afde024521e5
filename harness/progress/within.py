"""How far a step is that has begun: one of a large model takes minutes."""

from collections.abc import Callable, Sequence
from typing import Any

# The share of a step that is done after so many backward passes on its batch.
Within = Callable[[Any, int], float]


def of_micro_batches(batch: Sequence[dict[str, Any]], passes: int) -> float:
    """Of a supervised step: by the tokens of its micro-batches."""
    sizes = [
        sum(part[name].numel() for name in ("input_ids", "prompt_ids") if name in part)
        for part in batch
    ]
    return sum(sizes[:passes]) / sum(sizes)


def of_rollout(collecting: float, updates: int) -> Within:
    """Of an iteration of which `collecting` is the share before its `updates` backward passes."""

    def within(batch: Any, passes: int) -> float:
        return collecting + (1 - collecting) * min(1.0, passes / updates)

    return within
