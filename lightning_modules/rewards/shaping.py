"""What is done to raw scores before they become rewards: rescaled, clipped, penalised."""

from collections.abc import Callable

import torch
from torch import Tensor


class ScoreShaping:
    """Raw scores -> the score part of the reward; by default the identity. NaN stays NaN.

    In this order: `normalise` subtracts the mean and divides by the standard deviation of all
    scores so far, these included; `clip` cuts to [-clip, clip]; `missing_eos_penalty` is taken off
    responses that were cut at the length limit.
    """

    def __init__(self, *, normalise: bool, clip: float | None, missing_eos_penalty: float):
        self.normalise = normalise
        self.clip = clip
        self.missing_eos_penalty = missing_eos_penalty
        # Of all scores so far: number, mean, sum of squared distances from it.
        self._moments = torch.zeros(3, dtype=torch.float64)

    def __call__(
        self, scores: Tensor, stopped: Tensor, all_reduce: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """`scores`, `stopped`: (B,); `all_reduce` sums over ranks."""
        if self.normalise:
            known = scores[~scores.isnan()]
            self._update(known.double().cpu(), all_reduce)
            count, mean, squares = self._moments.tolist()
            # One score, or equal ones, have no scale.
            scale = (squares / max(count, 1)) ** 0.5 or 1.0
            scores = (scores - mean) / scale
        if self.clip is not None:
            scores = scores.clamp(-self.clip, self.clip)
        return scores - self.missing_eos_penalty * (~stopped)

    def _update(self, scores: Tensor, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Merge the moments of a batch into those so far (Chan et al. 1979)."""
        count, total = all_reduce(torch.stack([scores.new_tensor(len(scores)), scores.sum()]))
        if count == 0:
            return
        mean = total / count
        squares = all_reduce((scores - mean).square().sum())
        before, old_mean, old_squares = self._moments
        both = before + count
        shift = mean - old_mean
        self._moments = torch.stack(
            [
                both,
                old_mean + shift * count / both,
                old_squares + squares + shift.square() * before * count / both,
            ]
        )

    def state(self) -> list[float]:
        """Plain numbers for a checkpoint."""
        return self._moments.tolist()

    def load(self, state: list[float]) -> None:
        """Go on from `state()`."""
        self._moments = torch.tensor(state, dtype=torch.float64)
