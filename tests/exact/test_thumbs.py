"""Thumbs on exact probabilities give back what responses are worth, and pairs fit beside them."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from lightning_modules.objectives.preference import bradley_terry
from lightning_modules.objectives.thumbs import thumb

PROMPTS, RESPONSES, BIAS = 3, 5, 0.8
WORTH = torch.randn(
    PROMPTS, RESPONSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
UP = 1 / (1 + (BIAS - WORTH).exp())  # the probability of a thumb up
FIRST, SECOND = torch.tensor(list(combinations(range(RESPONSES), 2))).T
ODDS = WORTH.exp()
PREFERRED = ODDS[:, FIRST] / (ODDS[:, FIRST] + ODDS[:, SECOND])


def of_thumbs(table: Tensor, bias: Tensor) -> Tensor:
    """Expected loss of a thumb on every response."""
    liked = torch.ones_like(table, dtype=torch.bool)
    return (UP * thumb(table, bias, liked) + (1 - UP) * thumb(table, bias, ~liked)).sum()


def of_pairs(table: Tensor) -> Tensor:
    """Expected loss of a comparison of every two responses to a prompt."""
    a, b = table[:, FIRST], table[:, SECOND]
    return (PREFERRED * bradley_terry(a, b) + (1 - PREFERRED) * bradley_terry(b, a)).sum()


def fitted(loss, start: float = 0.0) -> tuple[Tensor, Tensor]:
    """A table of scores and a bias, by plain gradient descent."""
    table = torch.zeros_like(WORTH, requires_grad=True)
    bias = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        slopes = torch.autograd.grad(loss(table, bias), (table, bias), allow_unused=True)
        table, bias = (
            (x - 0.3 * (0 if slope is None else slope)).detach().requires_grad_()
            for x, slope in zip((table, bias), slopes, strict=True)
        )
    return table.detach(), bias.detach()


@pytest.mark.parametrize("start", [0.0, -2.0, 5.0])
def test_thumbs_recover_the_worth_of_every_response(start, measured):
    table, bias = fitted(of_thumbs, start)
    error = ((table - bias) - (WORTH - BIAS)).abs().max()
    measured(f"E8 thumbs recover scores less their bias: begun at {start:g}", error, 1e-12)


def test_the_order_of_responses_is_the_same_whatever_the_bias(measured):
    """Scores move with the bias, all by the same. A step moves the bias by what it moves all scores
    together, the other way, so their sum stays: of 5 each of the 15 scores and the bias has a 16th.
    """
    tables = [fitted(of_thumbs, start)[0] for start in (0.0, 5.0)]
    apart = tables[1] - tables[0]
    measured("E8 another bias moves all scores alike", (apart - apart.mean()).abs().max(), 1e-12)
    measured(
        "E8 another bias moves all scores by a known amount", abs(apart.mean() - 5 / 16), 1e-12
    )


def test_pairs_and_thumbs_of_one_worth_agree(measured):
    """Scores fitted to both are those fitted to either, so none pulls against the other."""
    table, bias = fitted(lambda table, bias: of_thumbs(table, bias) + of_pairs(table))
    error = ((table - bias) - (WORTH - BIAS)).abs().max()
    measured("E8 thumbs and pairs together recover scores less their bias", error, 1e-12)


def test_the_gradient_is_what_was_predicted_less_what_happened(measured):
    score = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    bias = torch.full_like(score, 0.7).requires_grad_()
    gap = (score - bias).detach()
    # 1 - sigmoid and sigmoid, written so that nothing cancels where they are small.
    wrong = {True: -1 / (1 + gap.exp()), False: 1 / (1 + (-gap).exp())}
    for liked, exact in wrong.items():
        loss = thumb(score, bias, torch.full_like(score, liked, dtype=torch.bool)).sum()
        slopes = torch.autograd.grad(loss, (score, bias))
        for name, slope, sign in zip(("score", "bias"), slopes, (1, -1), strict=True):
            error = (slope / (sign * exact) - 1).abs().max()
            what = f"a thumb {'up' if liked else 'down'}, by the {name}"
            measured(f"E8 the gradient of {what}", error, 1e-12)


def test_of_two_responses_of_which_one_is_liked_it_is_bradley_terry(measured):
    first, second = WORTH.flatten()[:-1], WORTH.flatten()[1:]
    yes = torch.ones_like(first, dtype=torch.bool)
    bias = torch.tensor(BIAS, dtype=torch.float64)
    only_first = torch.exp(-thumb(first, bias, yes) - thumb(second, bias, ~yes))
    only_second = torch.exp(-thumb(first, bias, ~yes) - thumb(second, bias, yes))
    error = only_first / (only_first + only_second) - torch.exp(-bradley_terry(first, second))
    measured("E8 exactly one of two liked is Bradley-Terry", error.abs().max(), 1e-12)


def test_nothing_overflows_far_away(measured):
    score = torch.tensor([-1e4, 1e4], dtype=torch.float64, requires_grad=True)
    loss = thumb(score, torch.zeros_like(score), torch.tensor([True, True]))
    (slope,) = torch.autograd.grad(loss.sum(), score)
    found, exact = torch.cat([loss.detach(), slope]), torch.tensor([1e4, 0, -1, 0]).to(slope)
    measured("E8 thumbs and their gradient at scores of 10000", (found - exact).abs().max(), 1e-12)
