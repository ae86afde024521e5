"""What is known of pairs of responses that a judge has compared in both orders."""

from dataclasses import dataclass, replace
from math import nan

import torch
from torch import Tensor

from lightning_modules.metrics.length_control import length_controlled
from lightning_modules.metrics.preferences import share_interval


@dataclass(frozen=True)
class BothOrders:
    """N pairs of responses; every field is (N,), float64 but `cluster`."""

    read_first: Tensor  # P(a pair's first response is the better one), where it is read first
    read_second: Tensor  # the same, where it is read second; both NaN without a verdict
    difference: Tensor  # characters of the first response minus the second
    cluster: Tensor  # long, equal for pairs of one prompt

    @property
    def scored(self) -> Tensor:
        """Which pairs have a verdict in both orders, (N,) bool."""
        return ~(self.read_first.isnan() | self.read_second.isnan())

    @property
    def won(self) -> Tensor:
        """1 where both orders prefer the first response, 0 where both prefer the second, 1/2 where
        they disagree or one has no winner, (N,).
        """
        first = (self.read_first > 0.5) & (self.read_second > 0.5)
        second = (self.read_first < 0.5) & (self.read_second < 0.5)
        return 0.5 + 0.5 * (first.double() - second.double())

    @property
    def disagree(self) -> Tensor:
        """1 where the orders have different winners, or one of them alone has one, else 0, (N,)."""
        return ((self.read_first - 0.5).sign() != (self.read_second - 0.5).sign()).double()

    @property
    def for_what_is_read_first(self) -> Tensor:
        """1 for each verdict that prefers what is read first, 0 for each that prefers the other,
        1/2 without a winner, (2N,): of one order, then of the other. As either response is read
        first once, the mean is 1/2 without a leaning, whichever is the better one.
        """
        first, second = self.read_first, self.read_second
        return 0.5 + 0.5 * torch.cat([(first - 0.5).sign(), (0.5 - second).sign()])

    def where(self, chosen: Tensor) -> "BothOrders":
        """The pairs for which `chosen` (N,) is True."""
        return replace(self, **{name: value[chosen] for name, value in vars(self).items()})


def judged_metrics(pairs: BothOrders) -> dict[str, float]:
    """The flat numbers of N >= 1 pairs, the first response of each being the one that may win; NaN
    where one is undefined (see docs/metrics.md). Of those without both verdicts only the share is
    told.
    """
    scored = pairs.where(pairs.scored)
    unscored = {"unscored": float((~pairs.scored).double().mean())}
    if not len(scored.won):
        return unscored
    won, cluster = scored.won, scored.cluster
    controlled = length_controlled(won, scored.difference, cluster)
    numbers = with_interval("win_rate", won, cluster)
    numbers |= {
        "lc_win_rate": controlled.rate,
        "lc_win_rate_ci_low": controlled.low,
        "lc_win_rate_ci_high": controlled.high,
        "length_effect": controlled.effect,
        "preference": float((scored.read_first + scored.read_second).mean() / 2),
        "ties": float((won == 0.5).double().mean()),
        "orders_disagree": float(scored.disagree.mean()),
    }
    numbers |= with_interval("read_first", scored.for_what_is_read_first, cluster.repeat(2))
    can_tell = (won != 0.5) & (scored.difference != 0)
    longer = (won == (scored.difference > 0).double()).double()
    return numbers | with_interval("longer", longer[can_tell], cluster[can_tell]) | unscored


def with_interval(name: str, values: Tensor, cluster: Tensor) -> dict[str, float]:
    """The mean of `values` (N,) in [0, 1] by its name, with its 95% interval; NaN if N is 0."""
    mean = float(values.mean()) if len(values) else nan
    low, high = share_interval(values, cluster) if len(values) else (nan, nan)
    return {name: mean, f"{name}_ci_low": low, f"{name}_ci_high": high}


def agreement(won: Tensor, cluster: Tensor) -> dict[str, float]:
    """How a judge's labels agree with others of the same N pairs, of which none is a tie.

    `won` (N,) is 1 where both prefer the same response, 0 where they do not, 1/2 where the judge
    has no winner. `agreement` is over the pairs with a winner; Cohen's kappa over them is 2
    agreement - 1, as which response comes first is arbitrary and either is preferred in half of
    the pairs by chance. `agreement_ties_half` is over all pairs, a tie being half right, as in the
    accuracy of a reward model.
    """
    decided = won != 0.5
    numbers = with_interval("agreement", won[decided], cluster[decided])
    kappa = {name.replace("agreement", "kappa"): 2 * x - 1 for name, x in numbers.items()}
    return numbers | kappa | with_interval("agreement_ties_half", won, cluster)


def column(values) -> Tensor:
    """(N,) in float64, NaN for None."""
    return torch.tensor([nan if v is None else v for v in values], dtype=torch.float64)
