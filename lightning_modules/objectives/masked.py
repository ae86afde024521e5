"""Sums, moments and aggregation over real tokens only.

Masked slots may hold anything, NaN included: they are selected away, never multiplied by zero.
"""

from collections.abc import Callable

from torch import Tensor

AllReduce = Callable[[Tensor], Tensor]


def one_process(x: Tensor) -> Tensor:
    """The sum over ranks where there is one rank."""
    return x


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """`x` with zeros where `mask` is False."""
    return x.masked_fill(~mask, 0.0)


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """The sum over real tokens of each sequence, shape (B,)."""
    return masked(x, mask).sum(-1)


def aggregate(token_losses: Tensor, mask: Tensor, divisor: Tensor | float) -> Tensor:
    """One scalar from per-token losses (B, T): their sum over real tokens / `divisor`.

    `divisor` counts the sequences (or tokens) of the whole optimiser step, over all micro-batches
    and ranks. The losses of micro-batches then add up to the loss of the step, however it is split.
    """
    return masked(token_losses, mask).sum() / divisor


def moments(x: Tensor, mask: Tensor, all_reduce: AllReduce = one_process) -> tuple[Tensor, Tensor]:
    """Mean and (population) variance over the real tokens of all ranks, in two passes.

    In float64, so that equal values have variance 0 whatever their number.
    """
    x = x.double()
    count = all_reduce(mask.sum().double())
    mean = all_reduce(masked(x, mask).sum()) / count
    variance = all_reduce(masked((x - mean) ** 2, mask).sum()) / count
    return mean, variance


def whiten(
    x: Tensor, mask: Tensor, all_reduce: AllReduce = one_process, eps: float = 1e-8
) -> Tensor:
    """`x` shifted and scaled to mean 0 and variance 1 over real tokens; 0 elsewhere.

    The mean is not added back. Where all values are equal the result is 0.
    """
    mean, variance = moments(x, mask, all_reduce)
    return masked((x.double() - mean) * (variance + eps).rsqrt(), mask).to(x.dtype)
