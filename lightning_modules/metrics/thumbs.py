"""What is known of a reward model from held-out thumbs: order, accuracy, calibration."""

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lightning_modules.metrics.preferences import share_interval, share_interval_at
from lightning_modules.objectives.thumbs import (
    placements,
    probability_calibration_error,
    thumb,
)


@dataclass(frozen=True)
class JudgedThumbs:
    """U held-out thumbs as a reward model sees them; tensors are (U,).

    `bias` is the score at which a thumb is as likely up as down; None of a reward that has none.
    """

    score: Tensor  # float64
    liked: Tensor  # bool
    length: Tensor  # characters, float64
    cluster: Tensor  # long, equal for thumbs on responses to one prompt
    probability: Tensor  # true probability of the thumb as it fell, NaN where unknown
    bias: float | None

    @property
    def predicted(self) -> Tensor:
        """Probability of a thumb up, (U,)."""
        return torch.sigmoid(self.score - self.bias)

    @property
    def right(self) -> Tensor:
        """1 where the likelier thumb was given, 0 where the other, 1/2 at the bias, (U,)."""
        signed = torch.where(self.liked, 1.0, -1.0) * (self.score - self.bias)
        return 0.5 + 0.5 * signed.sign()


def held_out_thumbs(judged: JudgedThumbs) -> dict[str, float]:
    """The flat numbers of U >= 1 thumbs; NaN where one is undefined (see docs/metrics.md)."""
    liked, cluster = judged.liked, judged.cluster
    up = float(liked.double().mean())
    low, high = auc_interval(judged.score, liked, cluster)
    numbers = {
        "up": up,
        "majority": max(up, 1 - up),
        "auc": auc(judged.score, liked),
        "auc_ci_low": low,
        "auc_ci_high": high,
        "auc_within": auc_within(judged.score, liked, cluster),
        "auc_longer": auc(judged.length, liked),
    }
    if judged.bias is not None:
        low, high = share_interval(judged.right, cluster)
        numbers |= {
            "loss": float(thumb(judged.score, torch.tensor(judged.bias), liked).mean()),
            "accuracy": float(judged.right.mean()),
            "accuracy_ci_low": low,
            "accuracy_ci_high": high,
            "ece": float(probability_calibration_error(judged.predicted, liked)),
            "brier": float((judged.predicted - liked.double()).square().mean()),
            "bias": judged.bias,
        }
    p = judged.probability
    if not p.isnan().any():
        numbers["bayes_accuracy"] = float(torch.maximum(p, 1 - p).mean())
    return numbers


def auc(score: Tensor, liked: Tensor) -> float:
    """How often a response that was liked scores above one that was not, equal scores counting half
    (Mann & Whitney 1947). NaN if all thumbs are of one kind.
    """
    if liked.all() or not liked.any():
        return nan
    return float(placements(score[liked], score[~liked]).mean())


def auc_within(score: Tensor, liked: Tensor, cluster: Tensor) -> float:
    """The same over the pairs of responses to one prompt alone, each pair counting once: what a
    policy is taught. NaN where no prompt has thumbs of both kinds.
    """
    won, pairs = 0.0, 0
    for prompt in cluster[liked].unique():
        here = cluster == prompt
        ups, downs = score[here & liked], score[here & ~liked]
        if len(downs):
            won += float(placements(ups, downs).sum()) * len(downs)
            pairs += len(ups) * len(downs)
    return won / pairs if pairs else nan


def auc_parts(score: Tensor, liked: Tensor) -> Tensor:
    """What each thumb adds to the AUC beyond its mean, (U,): their sum over independent clusters
    varies as the AUC does (DeLong et al. 1988).
    """
    ups, downs = score[liked], score[~liked]
    of_ups, of_downs = placements(ups, downs), 1 - placements(downs, ups)
    parts = torch.empty_like(score)
    parts[liked] = (of_ups - of_ups.mean()) / len(ups)
    parts[~liked] = (of_downs - of_downs.mean()) / len(downs)
    return parts


def variance_of_sum(parts: Tensor, cluster: Tensor) -> float:
    """Variance of the sum of parts (U,) of mean 0, of which only clusters are independent
    (Obuchowski 1997); NaN for one cluster.
    """
    _, place = cluster.unique(return_inverse=True)
    count = int(place.max()) + 1
    totals = torch.zeros(count, dtype=parts.dtype).index_add_(0, place, parts)
    return float(totals.square().sum()) * count / (count - 1) if count > 1 else nan


def auc_interval(score: Tensor, liked: Tensor, cluster: Tensor) -> tuple[float, float]:
    """95% interval of the AUC: Wilson's, at as many thumbs as would vary so much; (0, 1) where
    nothing is known.
    """
    if liked.all() or not liked.any():
        return 0.0, 1.0
    rarer = min(len(cluster[liked].unique()), len(cluster[~liked].unique()))
    variance = variance_of_sum(auc_parts(score, liked), cluster)
    return share_interval_at(auc(score, liked), variance, rarer, len(score))
