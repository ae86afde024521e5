"""Means that stay right when their parts come from micro-batches and ranks of unequal size."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.objectives.masked import masked


class Averages:
    """Named weighted means: totals and counts are summed first, divided last."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor | float, count: Tensor | float = 1.0) -> None:
        """Add to the sum and to the count of a mean."""
        # Where they are: a device is waited for at every copy, and `means` makes one.
        place = total.device if isinstance(total, Tensor) else None
        pair = torch.stack(
            [torch.as_tensor(x, dtype=torch.float64, device=place).detach() for x in (total, count)]
        )
        self._sums[name] = self._sums.get(name, 0) + pair

    def add_tokens(self, name: str, x: Tensor, mask: Tensor) -> None:
        """Add per-token values (B, T), weighted by the real tokens."""
        self.add(name, masked(x, mask).sum(), mask.sum())

    def add_rows(self, name: str, x: Tensor) -> None:
        """Add one value a row, (B,)."""
        self.add(name, x.double().sum(), len(x))

    def merge(self, other: "Averages") -> None:
        """Add the sums and counts of another."""
        for name, pair in other._sums.items():
            self._sums[name] = self._sums.get(name, 0) + pair

    def means(self, all_reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means over all ranks; `all_reduce` sums a tensor over them."""
        if not self._sums:
            return {}
        place = max(
            (x.device for x in self._sums.values()), key=lambda device: device.type != "cpu"
        )
        table = all_reduce(torch.stack([x.to(place) for x in self._sums.values()])).cpu()
        return dict(zip(self._sums, (table[:, 0] / table[:, 1]).tolist(), strict=True))
