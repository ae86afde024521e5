"""Only differences of scores count, and the two sides of a pair are each other's rest."""

from itertools import permutations
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.metrics.preferences import Judged, held_out_metrics
from lightning_modules.objectives.preference import (
    bradley_terry,
    brier_score,
    expected_calibration_error,
    plackett_luce,
)
from tests.exact.world import DTYPE, exact_gradient, optimum, score_table, tiny_lm
from tests.properties.drawing import property_of, seeds

EQUAL = 1e-12
scores = st.floats(-20, 20)
pairs = st.lists(st.tuples(scores, scores), min_size=1, max_size=8)
shifts = st.floats(-10, 10)


def sides(drawn):
    return torch.tensor(drawn, dtype=DTYPE).unbind(-1)


def close(x, y, atol=EQUAL):
    return torch.allclose(x, y, rtol=0, atol=atol)


@given(drawn=pairs)
@property_of()
def test_swapping_chosen_and_rejected_turns_p_into_1_minus_p(drawn):
    chosen, rejected = sides(drawn)
    p, swapped = (-bradley_terry(*pair) for pair in ((chosen, rejected), (rejected, chosen)))
    assert close(swapped.exp(), 1 - p.exp())
    assert close(p - swapped, chosen - rejected)


@given(drawn=pairs)
@property_of()
def test_swapping_turns_accuracy_into_its_rest_and_the_margin_round(drawn):
    chosen, rejected = sides(drawn)
    nothing, zeros = torch.full_like(chosen, float("nan")), torch.zeros_like(chosen)
    others = (zeros, zeros, torch.arange(len(chosen)), nothing, nothing)
    plain = held_out_metrics(Judged(chosen, rejected, *others))
    swapped = held_out_metrics(Judged(rejected, chosen, *others))
    assert swapped["accuracy"] == pytest.approx(1 - plain["accuracy"], abs=EQUAL)
    assert swapped["margin"] == pytest.approx(-plain["margin"], abs=EQUAL)
    assert swapped["score_chosen"] == plain["score_rejected"]
    assert swapped["loss"] - plain["loss"] == pytest.approx(plain["margin"], abs=1e-11)


@given(drawn=pairs)
@property_of()
def test_the_loss_pulls_both_sides_apart_by_the_probability_of_being_wrong(drawn):
    chosen, rejected = (x.clone().requires_grad_() for x in sides(drawn))
    bradley_terry(chosen, rejected).sum().backward()
    wrong = torch.sigmoid(rejected - chosen).detach()
    assert close(chosen.grad, -wrong)
    assert close(rejected.grad, wrong)


@given(drawn=pairs, shift=shifts)
@property_of()
def test_a_constant_of_the_prompt_changes_no_preference(drawn, shift):
    chosen, rejected = sides(drawn)
    constants = shift * torch.arange(len(chosen), dtype=DTYPE)
    moved = (chosen + constants, rejected + constants)
    assert close(bradley_terry(*moved), bradley_terry(chosen, rejected))
    assert close(brier_score(moved[0] - moved[1]), brier_score(chosen - rejected))
    both = torch.stack([chosen, rejected], dim=-1)
    assert close(plackett_luce(both + constants[:, None]), plackett_luce(both), 1e-11)


@given(drawn=pairs)
@property_of()
def test_plackett_luce_of_two_is_bradley_terry(drawn):
    chosen, rejected = sides(drawn)
    assert close(
        plackett_luce(torch.stack([chosen, rejected], -1)), bradley_terry(chosen, rejected)
    )


@given(drawn=st.lists(scores, min_size=1, max_size=5))
@property_of(25)
def test_all_rankings_of_the_same_responses_are_one_distribution(drawn):
    orders = torch.tensor(list(permutations(range(len(drawn)))))
    every = plackett_luce(torch.tensor(drawn, dtype=DTYPE)[orders])
    assert close((-every).exp().sum(), torch.tensor(1.0, dtype=DTYPE))


@given(drawn=pairs)
@property_of()
def test_calibration_and_brier_lie_in_their_bounds(drawn):
    chosen, rejected = sides(drawn)
    margins = chosen - rejected
    assert 0 <= expected_calibration_error(margins) <= 1
    assert 0 <= brier_score(margins) <= 1
    assert float(brier_score(0 * margins)) == 0.25
    assert float(bradley_terry(chosen, chosen).mean()) == pytest.approx(log(2), abs=EQUAL)


@given(drawn=pairs)
@property_of()
def test_brier_and_calibration_are_means_over_pairs(drawn):
    margins = torch.sub(*sides(drawn))
    for measure in (brier_score, expected_calibration_error):
        assert close(measure(margins.repeat(3)), measure(margins))


@given(seed=seeds, shift=shifts, beta=st.floats(0.05, 5))
@property_of(5)
def test_a_constant_in_the_reward_leaves_the_optimum_and_the_gradient(seed, shift, beta):
    lm, ref, table = tiny_lm("recurrent", 1), tiny_lm("recurrent", 2), score_table(seed % 1000)
    best, value = optimum(ref, table, beta)
    shifted_best, shifted_value = optimum(ref, table + shift, beta)
    assert close(shifted_best, best, 1e-10)
    assert close(shifted_value, value + shift, 1e-10)
    plain, shifted = (exact_gradient(lm, ref, t, beta) for t in (table, table + shift))
    assert close(shifted, plain, 1e-10)
