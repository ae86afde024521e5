"""Losses against exact objectives and the lecture's cases."""

import pytest
import torch

from lightning_modules.objectives.losses import (
    clipped_value_error,
    policy_gradient,
    ppo_clip,
    value_error,
)

EPS = 0.2
CLIP = (EPS, EPS)
RATIOS = (0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0)


def parameter(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def surrogate(ratio, advantage):
    """Loss, its derivative by the ratio, and the stats of a single token."""
    w = parameter(ratio)
    loss, stats = ppo_clip(w.log(), torch.zeros_like(w), torch.tensor([advantage]).double(), CLIP)
    (slope,) = torch.autograd.grad(loss.sum(), w)
    return float(loss.detach()), float(slope), {k: float(v) for k, v in stats.items()}


def lecture(ratio, advantage):
    """The objective by cases: min(w, 1 + eps) A for A > 0, max(w, 1 - eps) A for A < 0."""
    weight = min(ratio, 1 + EPS) if advantage > 0 else max(ratio, 1 - EPS)
    return weight * advantage, (weight == ratio) * advantage


def test_expected_policy_gradient_is_that_of_the_exact_objective():
    logits, rewards = parameter(0.3, -1.0, 2.0, 0.1), torch.tensor([1.0, 5.0, -2.0, 0.5]).double()
    logprobs = logits.log_softmax(-1)
    losses, _ = policy_gradient(logprobs, rewards)
    estimate = torch.autograd.grad((logprobs.exp().detach() * losses).sum(), logits)[0]
    objective = (logits.softmax(-1) * rewards).sum()
    torch.testing.assert_close(estimate, -torch.autograd.grad(objective, logits)[0])


def test_advantages_get_no_gradient():
    logprobs, advantages = parameter(-1.0, -2.0), parameter(3.0, -4.0)
    policy_gradient(logprobs, advantages)[0].sum().backward()
    assert advantages.grad is None
    assert logprobs.grad.tolist() == [-3.0, 4.0]


@pytest.mark.parametrize("advantage", [2.0, -3.0, 0.0])
@pytest.mark.parametrize("ratio", RATIOS)
def test_ppo_clip_is_the_lectures_cases(ratio, advantage):
    loss, slope, _ = surrogate(ratio, advantage)
    objective, its_slope = lecture(ratio, advantage)
    assert loss == pytest.approx(-objective, rel=1e-12)
    assert slope == pytest.approx(-its_slope, rel=1e-12)


@pytest.mark.parametrize("advantage", [2.0, -3.0, 0.0])
@pytest.mark.parametrize("ratio", RATIOS)
def test_clip_fraction_counts_where_clipping_changes_the_loss(ratio, advantage):
    loss, _, stats = surrogate(ratio, advantage)
    assert stats["clip_fraction"] == (abs(loss + ratio * advantage) > 1e-9)
    assert stats["ratio_outside"] == (ratio in (0.3, 0.79, 1.21, 3.0))


def test_at_ratio_1_the_gradient_is_the_policy_gradient():
    advantages = torch.tensor([2.0, -3.0, 0.0]).double()
    logprobs = parameter(-1.0, -0.2, -5.0)
    clip, stats = ppo_clip(logprobs, logprobs.detach(), advantages, CLIP)
    plain, _ = policy_gradient(logprobs, advantages)
    (of_clip,) = torch.autograd.grad(clip.sum(), logprobs)
    (of_plain,) = torch.autograd.grad(plain.sum(), logprobs)
    torch.testing.assert_close(of_clip, of_plain, rtol=0, atol=0)
    assert not any(x.any() for x in stats.values())


def test_stats_are_detached_and_per_token():
    loss, stats = ppo_clip(parameter(-1.0, -2.0), parameter(-1.5, -1.0), torch.ones(2), CLIP)
    assert loss.requires_grad
    assert all(not x.requires_grad and x.shape == loss.shape for x in stats.values())


def test_value_error_pulls_towards_returns_that_are_constants():
    values, returns = parameter(1.0, -2.0), parameter(3.0, -2.5)
    value_error(values, returns).sum().backward()
    assert values.grad.tolist() == [-2.0, 0.5]
    assert returns.grad is None


@pytest.mark.parametrize("old", [0.0, 10.0])
@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (0.1, 1.0, 0.5 * 0.9**2, -0.9),  # near the old value: the plain error
        (0.5, 1.0, 0.5 * 0.8**2, 0.0),  # has come further than it may: nothing more to gain
        (-0.5, 1.0, 0.5 * 1.5**2, -1.5),  # has gone the wrong way: the plain error
        (2.0, 1.0, 0.5 * 1.0**2, 1.0),  # has overshot: the plain error
        (-0.5, -1.0, 0.5 * 0.8**2, 0.0),  # the same on the other side
    ],
)
def test_clipped_value_error_around_the_old_value(old, value, target, loss, slope):
    values = parameter(old + value)
    old_values, returns = torch.tensor([old]).double(), torch.tensor([old + target]).double()
    error = clipped_value_error(values, old_values, returns, EPS)
    error.sum().backward()
    assert error.item() == pytest.approx(loss, rel=1e-12)
    assert values.grad.item() == pytest.approx(slope, abs=1e-12)


# -- PPO's options --------------------------------------------------------------------------------


def clipped(ratio, advantage, clip_range, dual_clip=None):
    """Loss, its derivative by the ratio, clip_fraction and ratio_outside of a single token."""
    w = parameter(ratio)
    advantages = torch.tensor([advantage]).double()
    loss, stats = ppo_clip(w.log(), torch.zeros_like(w), advantages, clip_range, dual_clip)
    (slope,) = torch.autograd.grad(loss.sum(), w)
    return (loss.item(), slope.item(), *(float(x) for x in stats.values()))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "counted", "outside"),
    [
        (1.25, 2.0, -2.5, -2.0, 0, 0),  # beyond 1 + low, and still within 1 + high
        (1.35, 2.0, -2.6, 0.0, 1, 1),
        (0.85, -3.0, 2.7, 0.0, 1, 1),  # within 1 - high, and already beyond 1 - low
        (0.95, -3.0, 2.85, 3.0, 0, 0),
        (0.85, 2.0, -1.7, -2.0, 0, 1),  # outside, but there is a reason to come back
        (1.35, -3.0, 4.05, 3.0, 0, 1),
    ],
)
def test_the_two_sides_of_the_range_are_separate(ratio, advantage, loss, slope, counted, outside):
    measured = clipped(ratio, advantage, (0.1, 0.3))
    assert measured == pytest.approx((loss, slope, counted, outside), rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "counted"),
    [
        (2.9, -3.0, 8.7, 3.0, 0),  # up to c the loss is as without
        (3.1, -3.0, 9.0, 0.0, 1),  # from c on it is -c A, and nothing pushes
        (50.0, -3.0, 9.0, 0.0, 1),
        (0.5, -3.0, 2.4, 0.0, 1),  # the lower side is clipped as ever
        (50.0, 2.0, -2.4, 0.0, 1),  # and nothing changes for A > 0
        (0.5, 2.0, -1.0, -2.0, 0),
        (50.0, 0.0, 0.0, 0.0, 0),
    ],
)
def test_dual_clip_bounds_the_loss_where_the_advantage_is_negative(
    ratio, advantage, loss, slope, counted
):
    measured = clipped(ratio, advantage, CLIP, dual_clip=3.0)
    assert measured[:3] == pytest.approx((loss, slope, counted), rel=1e-12, abs=1e-15)


def test_without_dual_clip_the_loss_of_a_negative_advantage_has_no_bound():
    assert clipped(50.0, -3.0, CLIP)[:3] == pytest.approx((150.0, 3.0, 0.0))
