"""On exact probabilities, losses with ties or wrong labels give the scores back as well."""

from itertools import combinations, permutations, product

import pytest
import torch

from lightning_modules.objectives.preference import (
    bradley_terry,
    label_smoothed,
    plackett_luce_with_ties,
    rao_kupper_tie,
)

RESPONSES = 4
SCORES = torch.randn(RESPONSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
FIRST, SECOND = torch.tensor(list(combinations(range(RESPONSES), 2))).T


def fitted(loss, count=RESPONSES) -> torch.Tensor:
    """Newton's method from 0; scores are known up to a constant, which is taken out."""
    table = torch.zeros(count, dtype=torch.float64)
    for _ in range(30):
        slope = torch.autograd.functional.jacobian(loss, table)
        curve = torch.autograd.functional.hessian(loss, table)
        table = table - torch.linalg.pinv(curve, hermitian=True) @ slope
    return table - table.mean()


def centred(x):
    return x - x.mean()


@pytest.mark.parametrize("threshold", [0.1, 0.7])
def test_rao_kupper_recovers_the_scores(threshold, measured):
    d = SCORES[FIRST] - SCORES[SECOND]
    win, lose = torch.sigmoid(d - threshold), torch.sigmoid(-d - threshold)
    tie = 1 - win - lose

    def loss(x):
        a, b = x[FIRST], x[SECOND]
        expected = win * bradley_terry(a, b, threshold) + lose * bradley_terry(b, a, threshold)
        return (expected + tie * rao_kupper_tie(a, b, threshold)).sum()

    error = (fitted(loss) - centred(SCORES)).abs().max()
    measured(f"E8 Rao-Kupper recovers the scores: threshold {threshold}", error, 1e-10)


def test_bradley_terry_on_ties_left_out_is_off():
    """Why ties have a likelihood: pairs that are no ties look surer than they are."""
    threshold = 0.7
    d = SCORES[FIRST] - SCORES[SECOND]
    win, lose = torch.sigmoid(d - threshold), torch.sigmoid(-d - threshold)

    def loss(x):
        a, b = x[FIRST], x[SECOND]
        return (win * bradley_terry(a, b) + lose * bradley_terry(b, a)).sum()

    assert (fitted(loss) - centred(SCORES)).abs().max() > 0.1


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_smoothing_takes_out_the_labels_that_are_wrong(share, measured):
    """A share of the labels is flipped: the optimum of two responses is at log((1-e)/e) for sure
    labels, and smoothed on labels of Bradley-Terry, at the log-odds of p' = (1-e) p + e (1-p).
    """
    p = torch.sigmoid(SCORES[0] - SCORES[1])
    seen = (1 - share) * p + share * (1 - p)

    def loss(x):
        both = bradley_terry(x[0], x[1]), bradley_terry(x[1], x[0])
        smoothed = label_smoothed(*both, share), label_smoothed(*both[::-1], share)
        return p * smoothed[0] + (1 - p) * smoothed[1]

    found = fitted(loss, 2)
    error = abs((found[0] - found[1]) - torch.log(seen / (1 - seen)))
    measured(f"E8 label smoothing has its closed optimum: a share of {share}", error, 1e-10)


def test_plackett_luce_recovers_the_scores_from_rankings_whose_ties_hide_orders(measured):
    """Of each full order only this is told: who is first, and who is last."""
    orders = torch.tensor(list(permutations(range(RESPONSES))))
    told = [
        ((first,), tuple(middle), (last,))
        for first, last in product(range(RESPONSES), repeat=2)
        if first != last
        for middle in [[i for i in range(RESPONSES) if i not in (first, last)]]
    ]

    def probability(order):
        left, p = list(range(RESPONSES)), torch.ones((), dtype=torch.float64)
        for i in order:
            p = p * SCORES[i].exp() / SCORES[left].exp().sum()
            left.remove(i)
        return p

    exact = {tuple(o): probability(o) for o in orders.tolist()}
    open_orders = torch.tensor(
        [[(*f, *m, *last) for m in permutations(middle)] for f, middle, last in told]
    )
    weights = torch.stack([sum(exact[tuple(o)] for o in each) for each in open_orders.tolist()])
    assert abs(weights.sum() - 1) < 1e-12

    def loss(x):
        mask = torch.ones_like(open_orders, dtype=torch.bool)
        return (weights * plackett_luce_with_ties(x[open_orders], mask)).sum()

    error = (fitted(loss) - centred(SCORES)).abs().max()
    measured("E8 Plackett-Luce recovers the scores from rankings with ties", error, 1e-10)
