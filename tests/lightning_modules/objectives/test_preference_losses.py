"""What can be added to Bradley-Terry, and rankings with ties: the formulas and their relations."""

from itertools import permutations
from math import log

import pytest
import torch

from lightning_modules.objectives.preference import (
    bradley_terry,
    centring,
    disagreement,
    equal_shares,
    label_smoothed,
    plackett_luce,
    plackett_luce_with_ties,
    rao_kupper_tie,
)

CHOSEN = torch.tensor([-3.0, 0.0, 0.2, 5.0, 0.4], dtype=torch.float64)
REJECTED = torch.tensor([1.0, 0.0, 0.1, -7.0, 0.9], dtype=torch.float64)
EQUAL = 1e-12


def close(a, b, atol=EQUAL):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=atol)


def slope(loss, x):
    return torch.autograd.grad(loss.sum(), x)[0]


# -- margins and wrong labels -----------------------------------------------------------------


def test_a_margin_asks_for_that_much_more():
    margin = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    found = bradley_terry(CHOSEN, REJECTED, margin)
    close(found, torch.log1p(torch.exp(-(CHOSEN - REJECTED - margin))))
    close(found, bradley_terry(CHOSEN - margin, REJECTED))
    # The right order by less than the margin still costs more than a coin toss.
    assert bradley_terry(CHOSEN[2], REJECTED[2], 1.0) > torch.tensor(2.0).log()
    assert (found[1:] > bradley_terry(CHOSEN, REJECTED)[1:]).all()


def smoothed(chosen, rejected, share):
    both = bradley_terry(chosen, rejected), bradley_terry(rejected, chosen)
    return label_smoothed(*both, share)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.4])
def test_smoothing_is_the_expected_loss_of_labels_that_may_be_wrong(share):
    flipped = bradley_terry(REJECTED, CHOSEN)
    expected = (1 - share) * bradley_terry(CHOSEN, REJECTED) + share * flipped
    close(smoothed(CHOSEN, REJECTED, share), expected)
    # Least where the odds are those of a right label, instead of at infinity.
    best = torch.tensor([(1 - share) / share], dtype=torch.float64).log().requires_grad_()
    close(slope(smoothed(best, 0 * best, share), best), [0.0])
    assert slope(smoothed(best + 1, 0 * best, share), best) > 0


def test_without_wrong_labels_nothing_is_smoothed():
    assert torch.equal(smoothed(CHOSEN, REJECTED, 0.0), bradley_terry(CHOSEN, REJECTED))


# -- ties -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.01, 0.5, 2.0])
def test_two_wins_and_the_tie_are_all_there_is(threshold):
    wins = [bradley_terry(a, b, threshold) for a, b in ((CHOSEN, REJECTED), (REJECTED, CHOSEN))]
    tie = rao_kupper_tie(CHOSEN, REJECTED, threshold)
    close(torch.stack([*wins, tie]).neg().exp().sum(0), torch.ones(5))
    close(tie, rao_kupper_tie(REJECTED, CHOSEN, threshold))


def test_without_a_threshold_there_are_no_ties():
    tiny = 1e-9
    close(bradley_terry(CHOSEN, REJECTED, tiny), bradley_terry(CHOSEN, REJECTED), 1e-8)
    assert rao_kupper_tie(CHOSEN, REJECTED, tiny).neg().exp().max() < 1e-9


def test_a_tie_pulls_scores_together():
    first, second = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    tie = rao_kupper_tie(first, second, 0.5)
    up, down = torch.autograd.grad(tie.sum(), (first, second))
    close(up, -down)
    assert torch.equal(up.sign(), (CHOSEN - REJECTED).sign())
    # No farther away than a win is, and finite anywhere.
    assert up.abs().max() < 1
    assert rao_kupper_tie(torch.tensor(1e4), torch.tensor(-1e4), 0.5).isfinite()


# -- what a constant costs, and what a comparison counts --------------------------------------


def test_with_centring_a_constant_per_prompt_is_no_longer_free():
    shifts = torch.linspace(-2, 2, 9, dtype=torch.float64)
    cost = torch.stack([centring(CHOSEN[0] + s, REJECTED[0] + s) for s in shifts])
    # Least where the two responses lie evenly about 0.
    assert float(shifts[cost.argmin()]) == 1.0
    close(cost.min(), 0.0)
    close(centring(CHOSEN, REJECTED), centring(REJECTED, CHOSEN))
    close(centring(CHOSEN, -CHOSEN), torch.zeros(5))


def test_the_pairs_of_a_group_share_one_weight():
    group = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    used = torch.tensor([True, True, True, True, False, True, True])
    shares = equal_shares(used, group, 4)
    close(shares, [1 / 3] * 3 + [1.0, 0.0, 0.5, 0.5], 1e-7)
    nothing = equal_shares(torch.zeros(7, dtype=torch.bool), group, 4)
    assert not nothing.any()


# -- rankings of unequal length, and with ties ------------------------------------------------

RATINGS = torch.tensor([0.3, -2.0, 1.7, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0.0, 1e9, float("nan"), float("inf")])
def test_what_is_behind_a_ranking_changes_nothing(count, padding):
    scores = RATINGS.clone()
    scores[count:] = padding
    scores.requires_grad_()
    mask = torch.arange(4) < count
    found = plackett_luce(scores, mask)
    alone = RATINGS[:count].clone().requires_grad_()
    close(found, plackett_luce(alone))
    close(slope(found, scores)[:count], slope(plackett_luce(alone), alone))
    assert not slope(plackett_luce(scores, mask), scores)[count:].any()


def ranked(groups, places=RATINGS):
    """(1, M, K) scores in the orders that groups of equals allow, best first, and their mask."""
    orders = [()]
    for group in groups:
        orders = [o + p for o in orders for p in permutations(group)]
    scores = places[torch.tensor(orders)]
    return scores[None], torch.ones_like(scores, dtype=torch.bool)[None]


@pytest.mark.parametrize(
    "groups", [((2,), (3,), (0,), (1,)), ((2, 3), (0, 1)), ((0,), (1, 2, 3)), ((3, 0, 1), (2,))]
)
def test_ties_leave_the_sum_over_the_orders_that_are_open(groups):
    scores, mask = ranked(groups)
    expected = -plackett_luce(scores[0]).neg().exp().sum().log()
    close(plackett_luce_with_ties(scores, mask), expected[None])
    # What is drawn one after another: a group is the choice of its members before all others.
    alone = plackett_luce(scores[0, 0])
    assert (plackett_luce_with_ties(scores, mask) <= alone + EQUAL).all()


def test_if_all_are_tied_nothing_was_said():
    scores, mask = ranked(((0, 1, 2, 3),))
    places = scores.clone().requires_grad_()
    loss = plackett_luce_with_ties(places, mask)
    close(loss, [0.0])
    leaf = RATINGS.clone().requires_grad_()
    close(slope(plackett_luce_with_ties(*ranked(((0, 1, 2, 3),), leaf)), leaf), torch.zeros(4))


def test_rankings_of_all_kinds_stand_in_one_batch():
    """Orders and responses that are not there change neither the loss nor a gradient."""
    kinds = [((2,), (3, 0), (1,)), ((0, 1),), ((3,), (1,)), ((0, 1, 2),)]
    leaf = RATINGS.clone().requires_grad_()
    whole = torch.full((4, 6, 4), float("nan"), dtype=torch.float64)
    mask = torch.zeros(4, 6, 4, dtype=torch.bool)
    alone = []
    for i, kind in enumerate(kinds):
        scores, real = ranked(kind, leaf)
        _, m, k = scores.shape
        whole = whole.clone()
        whole[i, :m, :k], mask[i, :m, :k] = scores[0], real[0]
        alone.append(plackett_luce_with_ties(scores, real))
    found = plackett_luce_with_ties(whole, mask)
    close(found, torch.cat(alone))
    for x, y in zip(found, alone, strict=True):
        a, b = (torch.autograd.grad(z.sum(), leaf, retain_graph=True)[0] for z in (x, y))
        close(a, b)


def test_a_tie_says_nothing_of_the_order_of_its_responses():
    leaf = RATINGS.clone().requires_grad_()
    first = slope(plackett_luce_with_ties(*ranked(((2, 0), (1,)), leaf)), leaf)
    swapped = RATINGS[[2, 1, 0, 3]].clone().requires_grad_()
    second = slope(plackett_luce_with_ties(*ranked(((2, 0), (1,)), swapped)), swapped)
    close(first, second[[2, 1, 0, 3]])


def test_heads_disagree_by_the_spread_of_their_preferences():
    """Two heads prefer the first response with 1/2 and 3/4: 1/8 to either side of their mean."""
    apart = torch.tensor([[0.0, 2.0], [0.0, 2.0 - log(3)]], dtype=torch.float64)
    close(disagreement(apart), 1 / 8)
    close(disagreement(apart.flip(0)), 1 / 8)
    # What a head adds to all scores says nothing, and of three two agree about one pair in three.
    close(disagreement(apart + torch.tensor([5.0, -3.0])), 1 / 8)
    close(disagreement(torch.cat([apart, apart[:1]])), (2 / 3) ** 0.5 / 8)
