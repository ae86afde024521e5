"""The length-controlled win rate gives back what was planted, whatever lengths do beside it."""

from math import exp, log

import pytest
import torch

from lightning_modules.metrics.length_control import length_controlled, standardised
from lightning_modules.metrics.preferences import share_interval

SEEDS = 80
PLANTED = [  # theta, phi, mean difference in length, comparisons
    (0.4, 1.0, 80.0, 200),  # better, and longer, which the judge likes
    (-1.0, 1.5, 150.0, 60),  # worse, and it looks as good as the other by its length
    (1.5, -1.0, -90.0, 30),
    (0.0, 0.0, 0.0, 60),
]


def planted(seed, theta, phi, shift, count):
    draw = torch.Generator().manual_seed(seed)
    difference = torch.randn(count, generator=draw, dtype=torch.float64) * 100 + shift
    p = torch.sigmoid(theta + phi * standardised(difference))
    won = (torch.rand(count, generator=draw, dtype=torch.float64) < p).double()
    return won, difference, torch.arange(count)


def sigmoid(x):
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize(("theta", "phi", "shift", "count"), PLANTED)
def test_what_was_planted_is_in_the_interval_as_often_as_it_says(
    theta, phi, shift, count, measured
):
    rows = [planted(seed, theta, phi, shift, count) for seed in range(SEEDS)]
    found = [length_controlled(*row) for row in rows]
    covered = sum(each.low <= sigmoid(theta) <= each.high for each in found) / SEEDS
    claim = f"E14 the interval covers the planted rate in 95% of {SEEDS} samples: theta {theta}"
    errors = abs(covered - 0.95) / (0.95 * 0.05 / SEEDS) ** 0.5  # standard errors
    measured(claim, errors, 3)
    if phi * shift:  # the plain rate is off by far more than chance
        plain = torch.stack([row[0].mean() for row in rows])
        assert (plain.mean() - sigmoid(theta)).abs() > 4 * plain.std() / SEEDS**0.5


def test_many_comparisons_come_to_the_planted_rate(measured):
    """Lengths of three kinds, as often won as they should be: no chance is left."""
    theta, phi = -0.7, 1.3
    lengths = torch.tensor([-100.0, 40.0, 300.0]).double().repeat_interleave(2)
    difference = lengths.repeat(20_000)
    p = torch.sigmoid(theta + phi * torch.tanh(difference / difference.std()))
    found = length_controlled(p, difference, torch.arange(len(p)))
    measured("E14 expected wins give the planted rate back", abs(found.rate - sigmoid(theta)), 1e-5)
    assert found.effect == pytest.approx(phi, abs=1e-4)
    assert found.high - found.low < 0.01


def test_equal_lengths_leave_the_plain_rate_and_its_interval():
    won, *_ = planted(0, 0.4, 0.0, 0.0, 60)
    won[::7], cluster = 0.5, torch.arange(60) // 2
    found = length_controlled(won, torch.zeros(60), cluster)
    assert found.rate == float(won.mean())
    assert (found.low, found.high) == share_interval(won, cluster)


def test_nearly_equal_lengths_leave_nearly_wilsons_interval(measured):
    """One comparison of a thousand differs in length: the other way of computing it meets."""
    won, *_ = planted(0, 0.4, 0.0, 0.0, 1000)
    difference = torch.zeros(1000)
    difference[::500] = torch.tensor([1e-6, -1e-6])
    found, cluster = length_controlled(won, difference, torch.arange(1000)), torch.arange(1000)
    plain = (float(won.mean()), *share_interval(won, cluster))
    errors = [abs(a - b) for a, b in zip((found.rate, found.low, found.high), plain, strict=True)]
    measured("E14 lengths that hardly differ leave Wilson's interval", max(errors), 5e-3)


@pytest.mark.parametrize(("theta", "phi", "shift", "count"), PLANTED)
def test_exchanging_the_policies_gives_the_rest(theta, phi, shift, count, measured):
    won, difference, cluster = planted(1, theta, phi, shift, count)
    won[::5], cluster = 0.5, cluster // 3
    one = length_controlled(won, difference, cluster)
    other = length_controlled(1 - won, -difference, cluster)
    errors = (one.rate + other.rate - 1, one.low + other.high - 1, one.high + other.low - 1)
    measured(f"E14 exchanged: 1 - rate, theta {theta}", max(map(abs, errors)), 1e-10)
    assert one.effect == pytest.approx(other.effect, abs=1e-9)


def test_it_is_the_ridge_regression_of_others():
    """Figures of scikit-learn 1.9.1, LogisticRegression(C=4): a free intercept, and the slope's
    penalty phi^2 / 2C, as here; a comparison without a winner is half a win and half a loss.
    """
    won = torch.tensor([1, 0, 1, 0.5, 1, 0, 1, 1, 0.5, 0, 1, 1])
    difference = torch.tensor([120, -30, 45, 0, 210, -15, -60, 80, 5, 33, -140, 64])
    found = length_controlled(won, difference, torch.arange(12))
    assert found.rate == pytest.approx(0.6448425520104841, abs=1e-9)
    assert found.effect == pytest.approx(0.7148437189093553, abs=1e-9)


def test_differences_are_standardised_around_their_mean_and_read_at_zero():
    difference = torch.tensor([0.0, 3.0, -1.0], dtype=torch.float64)
    spread = (((difference - 2 / 3) ** 2).sum() / 2).sqrt()
    assert torch.allclose(standardised(difference), torch.tanh(difference / spread))
    assert standardised(torch.tensor([5.0, 5.0])).tolist() == [1.0, 1.0]
    assert standardised(torch.tensor([-5.0])).tolist() == [-1.0]
    assert standardised(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("won", [1.0, 0.0])
def test_wins_of_one_kind_are_all_or_nothing(won):
    difference = torch.linspace(-50, 60, 20, dtype=torch.float64)
    found = length_controlled(torch.full((20,), won), difference, torch.arange(20))
    assert found.rate == won
    unsure = found.high - found.low
    assert 0 <= found.low <= found.high <= 1
    assert 0.1 < unsure < 0.5  # Wilson's, where lengths are equal, is 0.16


def test_what_length_alone_says_is_not_taken_for_quality():
    """The longer one always wins: the rate is defined, and even lengths say nothing against 1/2."""
    difference = torch.linspace(-60, 60, 40, dtype=torch.float64)
    found = length_controlled((difference > 0).double(), difference, torch.arange(40))
    assert found.rate == pytest.approx(0.5, abs=1e-9)
    assert found.effect > 3
    assert found.low < 0.4 < 0.6 < found.high


def test_one_policy_always_longer_leaves_what_the_penalty_allows():
    """No comparison is of equal lengths: 9 of 10 wins may be length alone, |phi| <= 1.96 * 2."""
    won = torch.ones(400, dtype=torch.float64)
    won[::10] = 0
    found = length_controlled(won, torch.full((400,), 80.0), torch.arange(400))
    assert found.rate == pytest.approx(0.9, abs=1e-9)
    assert found.low == pytest.approx(sigmoid(log(9) - 1.96 * 2), abs=0.03)
    assert found.high > 0.995


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_comparisons_say_little(count):
    won, difference, cluster = planted(0, 0.0, 0.0, 30.0, count)
    found = length_controlled(won, difference, cluster)
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.high - found.low > 0.6


def test_repeated_comparisons_of_a_prompt_do_not_make_it_surer(measured):
    won, difference, cluster = planted(2, 0.4, 1.0, 80.0, 100)
    once = length_controlled(won, difference, cluster)
    often = length_controlled(*(x.repeat_interleave(5) for x in (won, difference, cluster)))
    error = abs((often.high - often.low) / (once.high - once.low) - 1)
    measured("E14 answers that are there five times leave the interval's width", error, 0.02)
    apart = length_controlled(
        won.repeat_interleave(5), difference.repeat_interleave(5), torch.arange(500)
    )
    assert (apart.high - apart.low) / (once.high - once.low) == pytest.approx(5**-0.5, rel=0.05)


def test_prompts_that_differ_are_covered_too(measured):
    """Four answers a prompt share its difficulty: the interval is one over prompts."""
    covered, count, seeds = 0, 60, 60
    for seed in range(seeds):
        draw = torch.Generator().manual_seed(seed)
        cluster = torch.arange(count).repeat_interleave(4)
        difference = torch.randn(count * 4, generator=draw, dtype=torch.float64) * 100 + 50
        of_prompt = 1.2 * torch.randn(count, generator=draw, dtype=torch.float64)[cluster]
        p = torch.sigmoid(of_prompt + 0.8 * torch.tanh(difference / difference.std()))
        won = (torch.rand(count * 4, generator=draw, dtype=torch.float64) < p).double()
        found = length_controlled(won, difference, cluster)
        covered += found.low <= 0.5 <= found.high
    errors = abs(covered / seeds - 0.95) / (0.95 * 0.05 / seeds) ** 0.5
    measured("E14 the interval covers the planted rate where prompts differ", errors, 3)
