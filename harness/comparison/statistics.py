"""Intervals over seeds by the bootstrap: every resample where they are few, drawn ones otherwise.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
Two configurations are resampled independently of each other.
"""

from functools import lru_cache
from itertools import product
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.95
# A difference of sums may miss 0 by rounding alone.
ROUNDING = 1e-12


class Estimate(NamedTuple):
    """A number with its 95% interval; no interval (None) where one seed cannot give one."""

    value: float
    low: float | None
    high: float | None
    seeds: int

    def excludes(self, point: float) -> bool:
        """Whether there is an interval and `point` lies outside of it."""
        if self.low is None or self.high is None:
            return False
        slack = ROUNDING * max(1.0, abs(point))
        return self.low > point + slack or self.high < point - slack


@lru_cache
def resampled_counts(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often each of n values is in each resample, (R, n), rows summing to n.

    All n^n resamples where there are at most `resamples`, otherwise so many drawn with `seed`.
    """
    if n**n <= resamples:
        return _counts(np.array(list(product(range(n), repeat=n))))
    return _drawn(n, resamples, seed)


def interval(statistics: Array) -> tuple[Array, Array]:
    """The percentile interval of resampled statistics (R, ...): two arrays (...).

    Its ends are resampled values: between the few of two or three seeds nothing is interpolated.
    """
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(statistics, [tail, 100 - tail], axis=0, method="inverted_cdf")
    return low, high


def mean(values: Array) -> Estimate:
    """The mean of (n,) values, one a seed, with its interval."""
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()), None, None, n)
    low, high = interval(resampled_counts(n) @ values / n)
    return Estimate(float(values.mean()), float(low), float(high), n)


def mean_band(values: Array, resamples: int = 1_000) -> tuple[Array, Array, Array]:
    """Mean, low and high (T,) of curves (n, T), one a seed; with one seed low and high are it."""
    average = values.mean(axis=0)
    if len(values) < 2:
        return average, average, average
    return average, *interval(resampled_counts(len(values), resamples) @ values / len(values))


def difference(a: Array, b: Array) -> Estimate:
    """mean(a) - mean(b) of (n,) and (m,) values, seeds resampled in each."""
    value = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Estimate(value, None, None, min(len(a), len(b)))
    of_a, of_b = _independent(len(a), len(b))
    low, high = interval(of_a @ a / len(a) - of_b @ b / len(b))
    return Estimate(value, float(low), float(high), min(len(a), len(b)))


def probability_of_improvement(a: Array, b: Array) -> Estimate:
    """P(A > B) + P(A = B) / 2 for a random seed of each (Agarwal et al. 2021, section 4.3).

    The share over all n m pairs of (n,) and (m,) values, seeds resampled in each.
    """
    wins = 0.5 + 0.5 * np.sign(a[:, None] - b[None, :])
    value = float(wins.mean())
    if min(len(a), len(b)) < 2:
        return Estimate(value, None, None, min(len(a), len(b)))
    of_a, of_b = _independent(len(a), len(b))
    low, high = interval(((of_a @ wins) * of_b).sum(axis=1) / wins.size)
    return Estimate(value, float(low), float(high), min(len(a), len(b)))


def chance_of_separation(n: int, m: int) -> float:
    """How probable it is that n and m values of one distribution do not overlap: 2 / C(n + m, n).

    No test of ranks can find a difference at a level below it.
    """
    return 2 / comb(n + m, n)


@lru_cache
def _independent(n: int, m: int) -> tuple[Array, Array]:
    """Counts (R, n) and (R, m): every pair of resamples where they are few, else drawn ones."""
    if n**n * m**m <= RESAMPLES:
        of_a, of_b = resampled_counts(n), resampled_counts(m)
        return np.repeat(of_a, len(of_b), axis=0), np.tile(of_b, (len(of_a), 1))
    return _drawn(n, RESAMPLES, seed=1), _drawn(m, RESAMPLES, seed=2)


def _drawn(n: int, resamples: int, seed: int) -> Array:
    return _counts(np.random.default_rng(seed).integers(n, size=(resamples, n)))


def _counts(drawn: NDArray[np.int64]) -> Array:
    """How often each of 0 .. n-1 is in each row of (R, n) indices, (R, n)."""
    resamples, n = drawn.shape
    places = drawn + n * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)
