"""Over-optimisation of a proxy, on a curve that is known exactly."""

from itertools import pairwise
from math import sqrt

import pytest

from tests.exact.overoptimisation import (
    BETAS,
    GOLD,
    PROXY,
    best,
    curve,
    reference,
    seen,
    trained_points,
    training_run,
)
from tests.exact.trainer import expected

GOOD = 0.7


@pytest.fixture(scope="module")
def start():
    return seen(reference()[1])


def column(points, name):
    return [point[name] for point in points]


def steps(numbers):
    return [b - a for a, b in pairwise(numbers)]


def spread(logp, x):
    return sqrt(expected(logp, x * x) - expected(logp, x) ** 2)


def test_with_a_falling_beta_the_proxy_rises_and_gold_rises_and_falls(start):
    points = curve()
    assert min(steps(column(points, "kl"))) > 0
    assert min(steps(column(points, "proxy"))) > 0
    gold = column(points, "gold")
    rises = [step > 0 for step in steps(gold)]
    assert rises == sorted(rises, reverse=True), "gold has more than one peak"
    assert max(gold) > start["gold"] + 0.5
    assert gold[-1] < start["gold"] - 0.5


def test_a_good_beta_gives_most_of_the_gold_that_any_beta_can():
    points = curve()
    highest = max(column(points, "gold"))
    lowest = min(column(points, "gold"))
    assert seen(best(GOOD))["gold"] > highest - 0.02 * (highest - lowest)


@pytest.mark.parametrize("place", range(len(BETAS)))
def test_trained_policies_end_on_the_curve(place, measured):
    """Their KL to pi_beta is small, and so is what it can do to a mean: sd sqrt(2 KL)."""
    point, beta = trained_points()[place], BETAS[place]
    logp = best(beta)
    exact = seen(logp)
    for name, table in (("gold", GOLD), ("proxy", PROXY)):
        off = abs(point[name] - exact[name]) / spread(logp, table)
        claim = f"E12 PPO, beta {beta}: {name} off the curve, in standard deviations"
        measured(claim, off, sqrt(2 * 0.01))
    claim = f"E12 PPO, beta {beta}: KL to the reference off the curve, in nats"
    measured(claim, abs(point["kl"] - exact["kl"]), 0.1)


def test_without_a_penalty_gold_rises_then_falls_while_the_proxy_rises(start):
    points = training_run(0.0)
    gold, proxy = column(points, "gold"), column(points, "proxy")
    peak = gold.index(max(gold))
    assert gold[peak] > start["gold"] + 0.3
    assert gold[-1] < start["gold"] - 0.8
    assert proxy[0] < proxy[peak] < proxy[-1]
    assert proxy[-1] > 0.95 * float(PROXY.max())


def test_with_a_good_beta_gold_stays(start):
    """Where training without a penalty has long lost all."""
    later = column(training_run(GOOD), "gold")[5:]
    assert min(later) > start["gold"]
    assert later[-1] > start["gold"] + 0.5
