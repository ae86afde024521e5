"""Learning from comparisons."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(r+ - r-), the Bradley-Terry negative log-likelihood of each pair, shape (B,).

    `chosen`, `rejected`: scores (B,). Only differences matter: scores are known up to a constant
    per prompt. (Bradley & Terry 1952; Ouyang et al. 2022, eq. 1.)
    """
    return -F.logsigmoid(chosen - rejected)


def expected_calibration_error(margins: Tensor, bins: int = 15) -> Tensor:
    """ECE of the predicted preferences (Guo et al. 2017, eq. 3), a scalar in [0, 1].

    `margins` (N,) is r+ - r-. A pair's confidence is that of the answer predicted to be preferred,
    max(p, 1 - p) in [1/2, 1], cut into equal bins; it was right if the margin is positive, and half
    right at 0. The gap between confidence and accuracy is weighted by the share of the bin.
    """
    confidence = torch.sigmoid(margins.abs())
    right = 0.5 + 0.5 * margins.sign()
    place = ((confidence - 0.5) * 2 * bins).long().clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=margins.dtype, device=margins.device)
    gaps.index_add_(0, place, right - confidence)
    return gaps.abs().sum() / len(margins)


def brier_score(margins: Tensor) -> Tensor:
    """Mean of (1 - sigmoid(r+ - r-))^2 over pairs (N,); 0.25 is what knowing nothing gives."""
    return torch.sigmoid(-margins).square().mean()


def plackett_luce(scores: Tensor) -> Tensor:
    """Negative log-likelihood (B,) of rankings of K answers, `scores` (B, K), the best first.

    sum_k logsumexp_{j >= k} r_j - r_k: the best is chosen from all, the second from what is left,
    and so on (Plackett 1975; Luce 1959). With K = 2 it is Bradley-Terry.
    """
    left = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - scores).sum(-1)
