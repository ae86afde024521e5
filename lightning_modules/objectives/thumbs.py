"""Learning from thumbs: single responses that were liked or not."""

import torch
from torch import Tensor

from lightning_modules.objectives.preference import bradley_terry


def thumb(score: Tensor, bias: Tensor, liked: Tensor) -> Tensor:
    """-log sigmoid(r - b) of each response that was liked, -log sigmoid(b - r) of the others, (U,).

    `score` (U,), `bias` broadcast to it, `liked` (U,) bool. A thumb is a Bradley-Terry comparison
    with a response of score b; so of two responses of which exactly one is liked it is the first
    with probability sigmoid(r1 - r2), and thumbs and pairs can be fitted together. b takes up how
    often people like anything: scores and b are known up to a constant that they share, and the
    order of the responses does not depend on it.
    """
    return torch.where(liked, bradley_terry(score, bias), bradley_terry(bias, score))


def placements(x: Tensor, others: Tensor) -> Tensor:
    """Of each x (N,) the share of `others` (M,) that lie below, equal ones counting half, (N,)."""
    ordered = others.sort().values
    below, up_to = (torch.searchsorted(ordered, x, right=right) for right in (False, True))
    return (below + up_to).to(x.dtype) / (2 * len(others))


def probability_calibration_error(predicted: Tensor, happened: Tensor, bins: int = 15) -> Tensor:
    """ECE of probabilities (N,) of what `happened` (N,) or did not: the gap between the mean
    prediction and the share that happened in equal bins of [0, 1], weighted by the share of each
    bin (Guo et al. 2017, eq. 3, with the probability itself in the place of the confidence).
    """
    place = (predicted * bins).long().clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=predicted.dtype, device=predicted.device)
    gaps.index_add_(0, place, happened.to(predicted.dtype) - predicted)
    return gaps.abs().sum() / len(predicted)
