"""What is known of a reward model from held-out pairs: accuracy, calibration, leaning on length."""

from dataclasses import dataclass
from math import exp, inf, log, nan, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.metrics.intervals import Z_95, wilson_interval
from lightning_modules.objectives.preference import (
    bradley_terry,
    brier_score,
    expected_calibration_error,
)

# Where pairs are all in the right order the best temperature is 0, and where none is, infinity.
TEMPERATURES = (1e-3, 1e3)
# A variance below this is rounding: half a pair in a million is 2.5e-13.
NO_VARIANCE = 1e-20


@dataclass(frozen=True)
class Judged:
    """N held-out pairs as a reward model sees them; every field is (N,), float64 but `cluster`."""

    chosen: Tensor  # scores
    rejected: Tensor
    chosen_length: Tensor  # characters
    rejected_length: Tensor
    cluster: Tensor  # long, equal for pairs of one prompt
    probability: Tensor  # true probability of the preference as it fell, NaN where unknown
    strength: Tensor  # how much better `chosen` is, as labelled, NaN where unknown

    @property
    def margins(self) -> Tensor:
        """r+ - r-, (N,)."""
        return self.chosen - self.rejected

    @property
    def right(self) -> Tensor:
        """1 where the chosen response scores higher, 0 where lower, 1/2 for a tie, (N,)."""
        return 0.5 + 0.5 * self.margins.sign()

    @property
    def confidence(self) -> Tensor:
        """Predicted probability of the response that scores higher, in [1/2, 1], (N,)."""
        return torch.sigmoid(self.margins.abs())

    @property
    def length_difference(self) -> Tensor:
        """Characters of chosen minus rejected, (N,)."""
        return self.chosen_length - self.rejected_length

    @property
    def longer(self) -> Tensor:
        """1 where the chosen response is the longer, 0 where the shorter, 1/2 for a tie, (N,)."""
        return 0.5 + 0.5 * self.length_difference.sign()


class Bucket(NamedTuple):
    """Pairs whose value lies in [low, high), the last bucket's also at `high`."""

    low: float
    high: float
    pairs: int
    accuracy: float
    ci_low: float
    ci_high: float
    predicted: float  # mean probability of the predicted preference: the accuracy if calibrated


def held_out_metrics(judged: Judged) -> dict[str, float]:
    """The flat numbers of N >= 1 pairs; NaN where one is undefined (see docs/metrics.md)."""
    low, high = share_interval(judged.right, judged.cluster)
    metrics = {
        "loss": float(bradley_terry(judged.chosen, judged.rejected).mean()),
        "accuracy": float(judged.right.mean()),
        "margin": float(judged.margins.mean()),
        "score_chosen": float(judged.chosen.mean()),
        "score_rejected": float(judged.rejected.mean()),
        "accuracy_ci_low": low,
        "accuracy_ci_high": high,
        "accuracy_longer": float(judged.longer.mean()),
        "ece": float(expected_calibration_error(judged.margins)),
        "brier": float(brier_score(judged.margins)),
        "temperature": temperature(judged.margins),
        "ece_tempered": tempered_calibration_error(judged.margins, judged.cluster),
        "score_length_correlation": pearson(
            torch.cat([judged.chosen, judged.rejected]),
            torch.cat([judged.chosen_length, judged.rejected_length]),
        ),
        "score_length_correlation_within": _cosine(judged.margins, judged.length_difference),
    }
    p = judged.probability
    if not p.isnan().any():
        metrics["bayes_accuracy"] = float(torch.maximum(p, 1 - p).mean())
    return metrics


def accuracy_by(judged: Judged, values: Tensor, edges: Tensor) -> list[Bucket]:
    """Accuracy in each bucket of `values` (N,) that has pairs.

    `edges` (K + 1,) ascends; a last edge given twice makes a bucket of that value alone. Values
    that are NaN or outside the edges are left out.
    """
    inside = (values >= edges[0]) & (values <= edges[-1])
    place = (torch.searchsorted(edges, values.contiguous(), right=True) - 1).clamp(
        0, len(edges) - 2
    )
    buckets = []
    for k in range(len(edges) - 1):
        here = inside & (place == k)
        if not here.any():
            continue
        right = judged.right[here]
        low, high = share_interval(right, judged.cluster[here])
        buckets.append(
            Bucket(
                low=float(edges[k]),
                high=float(edges[k + 1]),
                pairs=len(right),
                accuracy=float(right.mean()),
                ci_low=low,
                ci_high=high,
                predicted=float(judged.confidence[here].mean()),
            )
        )
    return buckets


def clustered_variance(values: Tensor, cluster: Tensor) -> float:
    """Variance of the mean of `values` (N,), where only clusters are independent.

    G / (G - 1) sum_g (sum_{i in g} (y_i - mean))^2 / N^2 over G clusters: the ratio estimator,
    for clusters of unequal size (Cochran 1977, ch. 6). NaN for one cluster.
    """
    _, place = cluster.unique(return_inverse=True)
    count = int(place.max()) + 1
    if count == 1:
        return nan
    totals = torch.zeros(count, dtype=values.dtype, device=values.device)
    totals.index_add_(0, place, values - values.mean())
    return float(totals.square().sum()) * count / (count - 1) / len(values) ** 2


def mean_interval(values: Tensor, cluster: Tensor) -> tuple[float, float]:
    """95% normal interval of the mean of `values` (N,); NaN for one cluster."""
    half = Z_95 * sqrt(clustered_variance(values, cluster))
    return float(values.mean()) - half, float(values.mean()) + half


def share_interval(right: Tensor, cluster: Tensor) -> tuple[float, float]:
    """95% interval of the mean of `right` (N,) in [0, 1]: Wilson's, at an effective number of them.

    From n independent pairs the variance is estimated as p (1 - p) / (n - 1); the n at which that
    is the clustered variance, at most N, is the effective number (after Korn & Graubard 1998).
    Where nothing varies between clusters it is their number; one cluster alone says nothing:
    (0, 1). The interval is too narrow for a handful of clusters.
    """
    variance = clustered_variance(right, cluster)
    return share_interval_at(float(right.mean()), variance, len(cluster.unique()), len(right))


def share_interval_at(
    share: float, variance: float, clusters: int, most: int
) -> tuple[float, float]:
    """The same of a share whose variance is known, from so many clusters, of at most so many."""
    if clusters < 2:
        return 0.0, 1.0
    if variance < NO_VARIANCE:
        return wilson_interval(share, clusters)
    return wilson_interval(share, min(1 + share * (1 - share) / variance, most))


def temperature(margins: Tensor) -> float:
    """The T in TEMPERATURES with the least mean of -log sigmoid(margin / T) (Guo et al. 2017).

    Above 1 the model is over-confident, below 1 under-confident; 1 where all margins (N,) are 0 and
    T does not matter. The loss is convex in 1 / T, so its slope is bisected, in log T.
    """
    if not margins.any():
        return 1.0
    low, high = (log(t) for t in TEMPERATURES)
    while high - low > 1e-12:
        middle = (low + high) / 2
        inverse = exp(-middle)
        # How fast the loss falls as 1 / T grows.
        gain = float((margins * torch.sigmoid(-inverse * margins)).mean())
        low, high = (low, middle) if gain >= 0 else (middle, high)
    return exp((low + high) / 2)


def tempered_calibration_error(margins: Tensor, cluster: Tensor) -> float:
    """ECE of margin / T over all pairs (N,), with the T of each half of the clusters fitted on the
    other half. NaN for one cluster.
    """
    _, place = cluster.unique(return_inverse=True)
    odd = place % 2 == 1
    if not odd.any():
        return nan
    tempered = torch.where(
        odd, margins / temperature(margins[~odd]), margins / temperature(margins[odd])
    )
    return float(expected_calibration_error(tempered))


def pearson(x: Tensor, y: Tensor) -> float:
    """Correlation of two (M,); NaN where one of them is constant."""
    if x.min() == x.max() or y.min() == y.max():
        return nan
    return _cosine(x - x.mean(), y - y.mean())


def _cosine(x: Tensor, y: Tensor) -> float:
    """Correlation around 0: which of two responses comes first is arbitrary, so a difference within
    pairs has no mean to subtract.
    """
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if 0 < size < inf else nan
