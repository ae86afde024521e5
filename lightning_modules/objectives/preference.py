"""Learning from comparisons."""

from math import expm1, log

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-log sigmoid(r+ - r- - m), the Bradley-Terry negative log-likelihood of each pair, (B,).

    `chosen`, `rejected`: scores (B,). Only differences matter: scores are known up to a constant
    per prompt. (Bradley & Terry 1952; Ouyang et al. 2022, eq. 1.) A `margin` m > 0 asks for that
    much more than the right order (Touvron et al. 2023, eq. 2).
    """
    return -F.logsigmoid(chosen - rejected - margin)


def label_smoothed(as_labelled: Tensor, flipped: Tensor, smoothing: float) -> Tensor:
    """(1 - e) L(r+, r-) + e L(r-, r+): the expected loss if a share e of the labels is wrong."""
    return (1 - smoothing) * as_labelled + smoothing * flipped


def rao_kupper_tie(first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """Negative log-likelihood (B,) of "neither is better" between scores (B,).

    Differences below a threshold h > 0 are not seen: a response wins with sigmoid(d - h), which is
    `bradley_terry` with margin h, and what the two wins leave is the tie,
    (e^{2h} - 1) sigmoid(d - h) sigmoid(-d - h). (Rao & Kupper 1967.)
    """
    wins = bradley_terry(first, second, threshold) + bradley_terry(second, first, threshold)
    return wins - log(expm1(2 * threshold))


def disagreement(heads: Tensor) -> Tensor:
    """How far n heads disagree about K >= 2 responses with scores (K, n), a scalar in [0, 1/2].

    The standard deviation over the heads of the predicted preference sigmoid(r_i - r_j), the root
    of the mean over pairs i < j of its squares.
    """
    first, second = torch.triu_indices(len(heads), len(heads), offset=1)
    preferred = torch.sigmoid(heads[first] - heads[second])
    return preferred.var(-1, correction=0).mean().sqrt()


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r+ + r-)^2 of each pair, (B,): it holds scores near 0 (Eisenstein et al. 2023)."""
    return (chosen + rejected).square()


def equal_shares(used: Tensor, group: Tensor, groups: int) -> Tensor:
    """Weights (N,) by which the pairs of every group add up to 1 (to 0 if none is used).

    `used` (N,) bool, `group` (N,) in [0, groups). A ranking of K responses makes K (K - 1) / 2
    pairs that are no independent evidence; so it counts once (Ouyang et al. 2022, section 3.5).
    """
    used = used.double()
    counts = used.new_zeros(groups).index_add(0, group, used)
    return used / counts.clamp(min=1)[group]


def expected_calibration_error(margins: Tensor, bins: int = 15) -> Tensor:
    """ECE of the predicted preferences (Guo et al. 2017, eq. 3), a scalar in [0, 1].

    `margins` (N,) is r+ - r-. A pair's confidence is that of the response predicted to be
    preferred, max(p, 1 - p) in [1/2, 1], cut into equal bins; it was right if the margin is
    positive, and half right at 0. The gap between confidence and accuracy is weighted by the share
    of the bin.
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


def plackett_luce(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood (...,) of rankings of K responses, `scores` (..., K), the best first.

    sum_k logsumexp_{j >= k} r_j - r_k: the best is chosen from all, the second from what is left,
    and so on (Plackett 1975; Luce 1959). With K = 2 it is Bradley-Terry. `mask` (..., K) is False
    behind the last response of shorter rankings.
    """
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min / 2)
    left = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - scores).masked_fill(~mask, 0.0).sum(-1)


def plackett_luce_with_ties(scores: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood (B,) of rankings whose ties leave several orders open.

    `scores`, `mask`: (B, M, K), the responses' scores in each of the M orders that the ratings
    allow; an order is there if its first response is. The ranking is that one of them holds: -log
    sum_m P(order m), so a tie says nothing about the order of its responses.
    """
    orders = -plackett_luce(scores, mask)
    return -orders.masked_fill(~mask[..., 0], -torch.inf).logsumexp(-1)
