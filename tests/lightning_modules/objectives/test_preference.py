"""Bradley-Terry, Plackett-Luce, and how well their probabilities are calibrated."""

from itertools import permutations
from math import log

import pytest
import torch

from lightning_modules.objectives.preference import (
    bradley_terry,
    brier_score,
    expected_calibration_error,
    plackett_luce,
)

SCORES = torch.tensor([[-3.0, 0.0, 0.2, 5.0], [1.0, 0.0, 0.1, -7.0]], dtype=torch.float64)


def margins(*confident: tuple[float, int]) -> torch.Tensor:
    """(confidence, how often) pairs; a negative number of times means that it was wrong."""
    return torch.tensor(
        [log(p / (1 - p)) * (1 if n > 0 else -1) for p, n in confident for _ in range(abs(n))],
        dtype=torch.float64,
    )


def test_swapping_the_responses_turns_p_into_1_minus_p():
    chosen, rejected = SCORES
    p = torch.exp(-bradley_terry(chosen, rejected))
    torch.testing.assert_close(torch.exp(-bradley_terry(rejected, chosen)), 1 - p)
    torch.testing.assert_close(p / (1 - p), (chosen - rejected).exp())


def test_a_constant_per_prompt_changes_nothing():
    torch.testing.assert_close(bradley_terry(*(SCORES + 4)), bradley_terry(*SCORES))


def test_gradient_is_minus_the_probability_of_being_wrong():
    chosen, rejected = SCORES.clone().requires_grad_()
    up, down = torch.autograd.grad(bradley_terry(chosen, rejected).sum(), (chosen, rejected))
    expected = -(1 - torch.sigmoid(SCORES[0] - SCORES[1]))
    torch.testing.assert_close(up, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(down, -expected, rtol=0, atol=1e-14)


def test_no_overflow_far_from_zero():
    chosen = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = bradley_terry(chosen, torch.zeros(2))
    loss.sum().backward()
    assert loss.tolist() == [1e4, 0.0]
    assert chosen.grad.tolist() == [-1.0, 0.0]


def test_minimum_recovers_the_true_margin():
    p, margin = 0.9, torch.tensor(log(9.0), dtype=torch.float64, requires_grad=True)
    loss = p * bradley_terry(margin, margin * 0) + (1 - p) * bradley_terry(margin * 0, margin)
    loss.backward()
    assert float(margin.grad) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (margins((0.8, 4), (0.8, -1)), 0.0),
        (margins((0.8, 5)), 0.2),
        (margins((0.8, -5)), 0.8),
        (margins((0.8, 5), (0.95, -15)), 0.25 * 0.2 + 0.75 * 0.95),
        (margins((0.9, 3), (0.7, -1)), 0.75 * 0.1 + 0.25 * 0.7),
        (torch.zeros(6), 0.0),
        (torch.full((6,), 1e4), 0.0),
        (torch.full((6,), -1e4), 1.0),
    ],
    ids=["calibrated", "timid", "wrong", "two bins", "no cancelling", "ties", "sure", "fatal"],
)
def test_calibration_error_by_hand(pairs, expected):
    assert float(expected_calibration_error(pairs)) == pytest.approx(expected, abs=1e-7)


def test_in_one_bin_errors_of_both_signs_cancel():
    pairs = margins((0.9, 3), (0.7, -1))
    assert float(expected_calibration_error(pairs, bins=1)) == pytest.approx(abs(0.75 - 0.85))


def test_calibration_error_forgets_the_order_of_pairs():
    pairs = margins((0.6, 3), (0.7, -2), (0.99, 7))
    flipped = expected_calibration_error(pairs.flip(0))
    torch.testing.assert_close(flipped, expected_calibration_error(pairs))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [(torch.zeros(5), 0.25), (margins((0.8, 4), (0.8, -1)), 0.16), (torch.tensor([-1e4]), 1.0)],
    ids=["knows nothing", "p (1 - p)", "surely wrong"],
)
def test_brier_score_by_hand(pairs, expected):
    assert float(brier_score(pairs)) == pytest.approx(expected, abs=1e-12)


# -- rankings -------------------------------------------------------------------------------------

RATINGS = torch.tensor([0.3, -2.0, 1.7, 0.9], dtype=torch.float64)
ORDERS = list(permutations(range(len(RATINGS))))


def ranked(ratings=RATINGS) -> torch.Tensor:
    """Ratings in each of the 24 orders, (24, 4)."""
    return torch.stack([ratings[list(order)] for order in ORDERS])


def test_the_probabilities_of_all_rankings_add_up_to_1():
    assert float(plackett_luce(ranked()).neg().exp().sum()) == pytest.approx(1, abs=1e-14)


def test_the_best_one_is_chosen_by_a_softmax_over_all():
    p = plackett_luce(ranked()).neg().exp()
    for i, expected in enumerate(RATINGS.softmax(0)):
        first = torch.tensor([order[0] == i for order in ORDERS])
        assert float(p[first].sum()) == pytest.approx(float(expected), abs=1e-14)


def test_of_any_two_the_order_is_bradley_terrys():
    """Whoever else is in the ranking (Luce's choice axiom)."""
    p = plackett_luce(ranked()).neg().exp()
    for i, j in permutations(range(4), 2):
        before = torch.tensor([order.index(i) < order.index(j) for order in ORDERS])
        expected = bradley_terry(RATINGS[i], RATINGS[j]).neg().exp()
        assert float(p[before].sum()) == pytest.approx(float(expected), abs=1e-14)


def test_a_ranking_of_two_is_a_pair():
    torch.testing.assert_close(plackett_luce(SCORES.T), bradley_terry(*SCORES), rtol=0, atol=1e-14)


def test_a_constant_per_prompt_changes_no_ranking():
    shifted = plackett_luce(ranked(RATINGS + 100))
    torch.testing.assert_close(shifted, plackett_luce(ranked()), rtol=0, atol=1e-12)


def test_rankings_far_from_zero_do_not_overflow():
    scores = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]], requires_grad=True)
    loss = plackett_luce(scores)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 3e4]
    assert scores.grad.isfinite().all()
