"""The win rate that two policies would have if their responses were of equal length."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.metrics.intervals import Z_95
from lightning_modules.metrics.preferences import NO_VARIANCE, share_interval

# What phi is held towards 0 by, as by a normal prior of standard deviation 2: it weighs as much as
# one comparison without a winner.
PULL = 0.25
# Log-odds beyond which a probability is 0 or 1 but for rounding: every comparison went one way.
CERTAIN = 36.0


@dataclass(frozen=True)
class LengthControlled:
    """A win rate at equal lengths with its 95% interval, and `effect`, the log-odds that the
    longest responses win by their length.
    """

    rate: float
    low: float
    high: float
    effect: float


def length_controlled(won: Tensor, difference: Tensor, cluster: Tensor) -> LengthControlled:
    """The length-controlled win rate of N >= 1 comparisons (after Dubois et al. 2024, section 3).

    P(win) = sigmoid(theta + phi tanh(d / s)),  rate = sigmoid(theta): what is left at d = 0

    `won` (N,) in [0, 1], 1/2 for a tie; `difference` (N,): d, the response's length minus the other
    one's; s is their standard deviation around their mean, `cluster` (N,) equal for comparisons
    that are not independent. Of the paper's terms the difficulty of a prompt is left out: with two
    policies it cannot be told from chance. theta is free; phi is penalised by PULL phi^2 / 2 in the
    place of the paper's cross-validation, so that the rate exists where wins and losses can be
    separated by length. Where all wins go one way it is 0 or 1, and where lengths are equal it is
    the plain rate. Exchanging the two policies gives 1 - rate.

    The interval has those theta that a score test at 5% does not refuse, phi being fitted to each
    (Rao 1948); with equal lengths that is Wilson's. Comparisons that are not independent count for
    less, as in `share_interval`. If lengths say all that can be said (one policy's responses are
    always longer, by far), the interval is as wide as the penalty allows.
    """
    won = won.double()
    x = standardised(difference.double())
    if not x.any():
        return LengthControlled(float(won.mean()), *share_interval(won, cluster), effect=0.0)
    theta, phi = _theta(won, x, 0.0, 1.0)
    rate = float(won.mean()) if abs(theta) > CERTAIN else _sigmoid(theta)
    if len(cluster.unique()) < 2:
        return LengthControlled(rate, 0.0, 1.0, phi)
    weight = _independent_share(won, x, cluster, theta, phi)
    low, high = (_sigmoid(_theta(won, x, z, weight)[0]) for z in (Z_95, -Z_95))
    return LengthControlled(rate, low, high, phi)


def standardised(difference: Tensor) -> Tensor:
    """tanh(d / s) of differences d (N,) with standard deviation s, in [-1, 1]; 0 where d is 0, and
    the sign of d where nothing varies.
    """
    spread = float(difference.std()) if len(difference) > 1 else 0.0
    if spread <= 1e-12 * float(difference.abs().max()):
        return difference.sign()
    return (difference / spread).tanh()


def _theta(won: Tensor, x: Tensor, z: float, weight: float) -> tuple[float, float]:
    """The theta whose score is `z` standard errors above 0, and phi at it: the estimate for 0, the
    ends of the interval for Z_95 and -Z_95. Each comparison counts `weight` times.

    The score falls in theta, as the likelihood of theta with the best phi is concave: it is halved.
    """
    low, high, phi = -2 * CERTAIN, 2 * CERTAIN, 0.0
    while high - low > 1e-12 * max(1.0, abs(low)):
        theta = (low + high) / 2
        phi = _phi(won, x, theta, weight, phi)
        p = torch.sigmoid(theta + phi * x)
        of_theta, both, of_phi = _information(p, x, weight)
        # The information on theta that is left where phi is not known.
        left = max(of_theta - both**2 / (of_phi + PULL), 0.0)
        above = weight * float((won - p).sum()) > z * left**0.5
        low, high = (theta, high) if above else (low, theta)
    return (low + high) / 2, phi


def _phi(won: Tensor, x: Tensor, theta: float, weight: float, phi: float) -> float:
    """The best phi at a theta, from one near it by Newton's steps where they stay between bounds,
    else by halves.
    """
    high = weight * float(x.abs().sum()) / PULL  # |score| is at most sum |x|
    low = -high
    for _ in range(200):
        p = torch.sigmoid(theta + phi * x)
        slope = weight * float((won - p) @ x) - PULL * phi
        low, high = (phi, high) if slope > 0 else (low, phi)
        step = slope / (weight * float((p * (1 - p)) @ x.square()) + PULL)
        if abs(step) < 1e-13 * max(1.0, abs(phi)):
            return phi
        phi = phi + step if low < phi + step < high else (low + high) / 2
    return phi


def _information(p: Tensor, x: Tensor, weight: float) -> tuple[float, float, float]:
    """Of theta and theta, theta and phi, phi and phi."""
    w = weight * p * (1 - p)
    return float(w.sum()), float(w @ x), float(w @ x.square())


def _independent_share(won: Tensor, x: Tensor, cluster: Tensor, theta: float, phi: float) -> float:
    """For how many independent comparisons each counts, at most 1: by how much the variance of
    theta over clusters is above that of as many independent ones, as in `share_interval`.
    """
    n, (_, place) = len(won), cluster.unique(return_inverse=True)
    groups = int(place.max()) + 1
    p = torch.sigmoid(theta + phi * x)
    of_theta, both, of_phi = _information(p, x, 1.0)
    if abs(theta) > CERTAIN:
        return groups / n
    determinant = of_theta * (of_phi + PULL) - both**2
    # How much a unit of each comparison's residual moves theta.
    lever = (of_phi + PULL - both * x) / determinant
    moved = torch.zeros(groups, dtype=won.dtype).index_add_(0, place, lever * (won - p))
    over_clusters = float(moved.square().sum()) * groups / (groups - 1)
    if over_clusters < NO_VARIANCE:
        return groups / n
    independent = float((lever.square() * p * (1 - p)).sum())
    return min(1.0, (1 + n * independent / over_clusters) / n)


def _sigmoid(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).sigmoid())
