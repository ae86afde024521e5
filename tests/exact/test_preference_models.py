"""Bradley-Terry and Plackett-Luce on exact probabilities give the scores back, up to a constant."""

from collections.abc import Callable
from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from lightning_modules.objectives.preference import bradley_terry, plackett_luce

PROMPTS, RESPONSES = 3, 5
SCORES = torch.randn(
    PROMPTS, RESPONSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
ORDERS = torch.tensor(list(permutations(range(RESPONSES))))


def centred(scores: Tensor) -> Tensor:
    """The scores of each prompt, less what no preference can tell."""
    return scores - scores.mean(-1, keepdim=True)


def trained(loss: Callable[[Tensor], Tensor], lr: float) -> Tensor:
    """A table of scores, by plain gradient descent from zero."""
    table = torch.zeros_like(SCORES, requires_grad=True)
    for _ in range(1500):
        (slope,) = torch.autograd.grad(loss(table), table)
        table = (table - lr * slope).detach().requires_grad_()
    return table.detach()


def order_probability(scores: Tensor, order: tuple[int, ...]) -> Tensor:
    """Of one prompt: the best is drawn in proportion to exp(score), then the best of the rest."""
    left, probability = list(range(len(scores))), torch.ones((), dtype=scores.dtype)
    for first in order:
        probability = probability * scores[first].exp() / scores[left].exp().sum()
        left.remove(first)
    return probability


def test_bradley_terry_recovers_the_scores_of_every_prompt(measured):
    first, second = torch.tensor(list(combinations(range(RESPONSES), 2))).T
    strength = SCORES.exp()
    preferred = strength[:, first] / (strength[:, first] + strength[:, second])

    def loss(table: Tensor) -> Tensor:
        a, b = table[:, first], table[:, second]
        return (preferred * bradley_terry(a, b) + (1 - preferred) * bradley_terry(b, a)).sum()

    error = (centred(trained(loss, 0.5)) - centred(SCORES)).abs().max()
    measured("E8 Bradley-Terry recovers the scores, up to a constant a prompt", error, 1e-12)


def test_plackett_luce_recovers_the_scores_of_every_prompt(measured):
    probability = torch.stack(
        [torch.stack([order_probability(of_one, tuple(o)) for o in ORDERS]) for of_one in SCORES]
    )

    def loss(table: Tensor) -> Tensor:
        ranked = table[:, ORDERS]
        return (probability * plackett_luce(ranked.flatten(0, 1)).view(PROMPTS, -1)).sum()

    error = (centred(trained(loss, 0.3)) - centred(SCORES)).abs().max()
    measured("E8 Plackett-Luce recovers the scores, up to a constant a prompt", error, 1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_all_orders_together_have_probability_1(count, measured):
    orders = torch.tensor(list(permutations(range(count))))
    scores = 3 * SCORES[0, :count]
    probability = torch.exp(-plackett_luce(scores[orders]))
    error = abs(probability.sum() - 1)
    measured(f"E8 the probabilities of all K! orders add up to 1: K = {count}", error, 1e-12)
    exact = torch.stack([order_probability(scores, tuple(o)) for o in orders.tolist()])
    error = (probability / exact - 1).abs().max()
    measured(f"E8 the probability of an order, drawn one by one: K = {count}", error, 1e-12)


def test_two_responses_ranked_by_plackett_luce_are_a_bradley_terry_pair(measured):
    pairs = torch.cat([SCORES[:, :2], 100 * SCORES[:, :2], -100 * SCORES[:, :2]])
    a, b = (x.clone().requires_grad_() for x in (pairs, pairs))
    ranked, compared = plackett_luce(a), bradley_terry(b[:, 0], b[:, 1])
    measured(
        "E8 Plackett-Luce with K = 2 is Bradley-Terry",
        (ranked - compared).detach().abs().max(),
        1e-12,
    )
    slopes = [torch.autograd.grad(x.sum(), y)[0] for x, y in ((ranked, a), (compared, b))]
    error = (slopes[0] - slopes[1]).abs().max()
    measured("E8 Plackett-Luce with K = 2 has Bradley-Terry's gradient", error, 1e-12)


def test_of_a_ranking_each_pair_is_bradley_terry(measured):
    """Which of two responses is ranked higher does not depend on what else is ranked."""
    probability = torch.exp(-plackett_luce(SCORES[0][ORDERS]))
    places = ORDERS.argsort(-1)
    errors = []
    for i, j in combinations(range(RESPONSES), 2):
        before = probability[places[:, i] < places[:, j]].sum()
        errors.append(before - torch.exp(-bradley_terry(SCORES[0, i], SCORES[0, j])))
    error = torch.stack(errors).abs().max()
    measured("E8 the pairs of a Plackett-Luce ranking are Bradley-Terry", error, 1e-12)


def test_the_gradient_is_the_probability_of_the_other_order(measured):
    chosen = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    rejected = torch.full_like(chosen, 0.7).requires_grad_()
    up, down = torch.autograd.grad(bradley_terry(chosen, rejected).sum(), (chosen, rejected))
    # 1 - sigmoid(d), written so that nothing cancels where it is small.
    wrong = 1 / (1 + (chosen - rejected).detach().exp())
    for name, error in (("chosen", up + wrong), ("rejected", down - wrong)):
        claim = f"E8 the gradient of Bradley-Terry is the probability of being wrong: {name}"
        measured(claim, (error / wrong).abs().max(), 1e-12)


def test_nothing_overflows_far_away(measured):
    chosen = torch.tensor([-1e4, 1e4], dtype=torch.float64, requires_grad=True)
    loss = bradley_terry(chosen, torch.zeros_like(chosen))
    (slope,) = torch.autograd.grad(loss.sum(), chosen)
    found, exact = torch.cat([loss.detach(), slope]), torch.tensor([1e4, 0, -1, 0]).to(slope)
    claim = "E8 Bradley-Terry and its gradient at differences of 10000"
    measured(claim, (found - exact).abs().max(), 1e-12)
