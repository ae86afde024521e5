"""Bootstrap intervals and the probability of improvement, against enumeration and theory."""

from itertools import combinations, product

import numpy as np
import pytest

from harness.comparison.statistics import (
    RESAMPLES,
    Estimate,
    chance_of_separation,
    difference,
    interval,
    mean,
    mean_band,
    probability_of_improvement,
    resampled_counts,
)

# Error of a 2.5% quantile of normal draws in standard deviations; four of it, relative to 1.96.
QUANTILE_ERROR = np.sqrt(0.025 * 0.975 / RESAMPLES) / 0.0584
TOLERANCE = 4 * QUANTILE_ERROR / 1.96


def normal(n: int, seed: int = 0) -> np.ndarray:
    """n values of mean 0 and standard deviation 1 exactly."""
    x = np.random.default_rng(seed).normal(size=n)
    return (x - x.mean()) / x.std()


def quantiles(values: list[float]) -> tuple[float, float]:
    """The least values with at least 2.5% and 97.5% of all at or below them."""
    ordered = sorted(values)
    return tuple(ordered[int(np.ceil(share * len(ordered) - 1e-9)) - 1] for share in (0.025, 0.975))


def test_few_seeds_are_resampled_in_every_way():
    counts = resampled_counts(3)
    assert len(counts) == 27
    assert (counts.sum(axis=1) == 3).all()
    assert len(resampled_counts(5)) == 5**5
    assert len(resampled_counts(6)) == RESAMPLES


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.0, 1.0, 5.0], [3.0, -1.0, 2.0, 2.5]])
def test_the_mean_of_few_seeds_has_the_interval_of_all_resamples(values):
    every = [float(np.mean(x)) for x in product(values, repeat=len(values))]
    found = mean(np.array(values))
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(quantiles(every))


def test_the_mean_of_many_seeds_has_the_interval_of_normal_theory():
    x = 3 + 2 * normal(400)
    found = mean(x)
    half = 1.96 * 2 / np.sqrt(400)
    assert found.value == pytest.approx(3)
    assert (3 - found.low, found.high - 3) == pytest.approx((half, half), rel=TOLERANCE)


@pytest.mark.parametrize(("seeds", "coverage"), [(2, 0.5), (3, 0.75), (5, 0.84), (10, 0.90)])
def test_intervals_of_few_seeds_hold_the_truth_as_seldom_as_the_documents_say(seeds, coverage):
    trials = 1500
    rng = np.random.default_rng(0)
    counts = resampled_counts(seeds, 1000)
    held = 0
    for _ in range(trials):
        low, high = interval(counts @ rng.normal(size=seeds) / seeds)
        held += low <= 0 <= high
    error = np.sqrt(coverage * (1 - coverage) / trials)
    assert held / trials == pytest.approx(coverage, abs=4 * error + 0.005)  # rounded to percents


def test_one_seed_has_no_interval():
    one, two = np.array([1.0]), np.array([1.0, 2.0])
    assert mean(one) == Estimate(1.0, None, None, 1)
    for measure in (difference, probability_of_improvement):
        for pair in ((one, two), (two, one), (one, one)):
            assert measure(*pair).low is measure(*pair).high is None
            assert not measure(*pair).excludes(123.0)
    for band in mean_band(np.array([[1.0, 2.0]])):
        assert band.tolist() == [1.0, 2.0]


def test_a_band_is_the_interval_of_the_mean_at_every_point():
    curves = np.random.default_rng(0).normal(size=(3, 4))
    average, low, high = mean_band(curves)
    for i in range(4):
        assert (average[i], low[i], high[i]) == pytest.approx(mean(curves[:, i])[:3])


def test_differences_and_probabilities_of_few_seeds_are_those_of_all_resamples():
    a, b = [1.0, 2.0, 2.5], [0.0, 2.0]
    both = [(x, y) for x in product(a, repeat=3) for y in product(b, repeat=2)]
    found = difference(np.array(a), np.array(b))
    every = [float(np.mean(x) - np.mean(y)) for x, y in both]
    assert (found.low, found.high) == pytest.approx(quantiles(every))

    def wins(x, y):
        return float(np.mean([(p > q) + 0.5 * (p == q) for p in x for q in y]))

    found = probability_of_improvement(np.array(a), np.array(b))
    assert found.value == pytest.approx(wins(a, b))
    assert (found.low, found.high) == pytest.approx(quantiles([wins(x, y) for x, y in both]))


def test_the_difference_of_many_seeds_has_the_interval_of_normal_theory():
    a, b = 1 + normal(200, 1), 3 * normal(300, 2)
    found = difference(a, b)
    half = 1.96 * np.sqrt(1 / 200 + 9 / 300)
    assert (1 - found.low, found.high - 1) == pytest.approx((half, half), rel=TOLERANCE)


def test_two_configurations_are_resampled_independently():
    x = normal(10)
    found = difference(x, x)
    half = 1.96 * np.sqrt(2 / 10)
    assert found.value == 0
    # 0.06: a mean of 10 is not quite normal
    assert (-found.low, found.high) == pytest.approx((half, half), rel=TOLERANCE + 0.06)


def test_separated_samples_improve_for_certain_and_equal_ones_half_the_time():
    for n in (2, 5, 20):
        low, high = normal(n), 100 + normal(n, 1)
        assert probability_of_improvement(high, low)[:3] == (1, 1, 1)
        assert probability_of_improvement(low, high)[:3] == (0, 0, 0)
        same = np.ones(n)
        assert probability_of_improvement(same, same)[:3] == (0.5, 0.5, 0.5)
        assert not probability_of_improvement(same, same).excludes(0.5)
        assert not difference(same, same).excludes(0)


def test_probabilities_of_improvement_add_to_one():
    a, b = normal(8), 0.5 + normal(12, 1)
    there, back = probability_of_improvement(a, b), probability_of_improvement(b, a)
    assert there.value + back.value == pytest.approx(1)
    assert there.low < there.value < there.high


def test_an_interval_excludes_what_lies_outside_of_it():
    assert Estimate(1, 0.5, 1.5, 3).excludes(0.4)
    assert Estimate(1, 0.5, 1.5, 3).excludes(1.6)
    assert not Estimate(1, 0.5, 1.5, 3).excludes(0.5)
    # What rounding alone leaves above 0 decides nothing.
    assert not Estimate(1e-17, 1e-17, 1e-16, 3).excludes(0)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (3, 3)])
def test_the_chance_of_separation_is_that_of_all_orders(n, m):
    ranks = range(n + m)
    apart = [
        max(a) < min(set(ranks) - set(a)) or min(a) > max(set(ranks) - set(a))
        for a in combinations(ranks, n)
    ]
    assert chance_of_separation(n, m) == pytest.approx(np.mean(apart))
