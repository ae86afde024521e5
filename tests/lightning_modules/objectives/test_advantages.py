"""Rewards, returns and advantages against naive sums and the relations that define them."""

import pytest
import torch

from lightning_modules.objectives.advantages import (
    gae,
    last_token,
    leave_one_out,
    penalised_rewards,
    rewards_to_go,
)
from lightning_modules.objectives.masked import masked, masked_sum

LENGTHS = (1, 6, 3, 5)
MASK = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
GRID = [(g, lam) for g in (1.0, 0.9, 0.0) for lam in (1.0, 0.95, 0.0)]


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def rewards(draw):
    return draw(4, 6)


@pytest.fixture
def values(draw):
    return draw(4, 6)


def poisoned(x):
    return x.masked_fill(~MASK, float("nan"))


def naive_gae(rewards, values, gamma, lam):
    """The definition, as a double loop over the tokens of each row."""
    result = torch.zeros_like(rewards)
    for b, n in enumerate(LENGTHS):
        for t in range(n):
            for s in range(t, n):
                following = values[b, s + 1] if s + 1 < n else 0.0
                delta = rewards[b, s] + gamma * following - values[b, s]
                result[b, t] += (gamma * lam) ** (s - t) * delta
    return result


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_last_token_is_the_last_real_one():
    assert [row.nonzero().flatten().tolist() for row in last_token(MASK)] == [[0], [5], [2], [4]]


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_rewards_sum_to_score_minus_beta_kl(draw, beta):
    scores, logprobs, ref = draw(4), draw(4, 6), draw(4, 6)
    rewards = penalised_rewards(scores, logprobs, ref, MASK, beta)
    close(rewards.sum(-1), scores - beta * masked_sum(logprobs - ref, MASK))


def test_score_comes_at_the_last_real_token(draw):
    logprobs, ref = draw(4, 6), draw(4, 6)
    without = penalised_rewards(torch.zeros(4).double(), logprobs, ref, MASK, 0.3)
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    difference = penalised_rewards(scores, logprobs, ref, MASK, 0.3) - without
    close(difference[torch.arange(4), torch.tensor(LENGTHS) - 1], scores)
    close(difference.sum(-1), scores)


def test_the_further_from_the_reference_the_lower(draw):
    ref = draw(4, 6)
    rewards = penalised_rewards(torch.zeros(4).double(), ref + 1, ref, MASK, 0.3)
    close(rewards, -0.3 * MASK.double())


def test_beta_0_needs_no_reference(draw):
    rewards = penalised_rewards(torch.ones(4), draw(4, 6), None, MASK, 0.0)
    assert torch.equal(rewards, last_token(MASK).to(rewards.dtype))


def test_rewards_are_constants(draw):
    logprobs = draw(4, 6).requires_grad_()
    assert not penalised_rewards(draw(4), logprobs, draw(4, 6), MASK, 0.3).requires_grad


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_rewards_to_go_are_discounted_sums(rewards, gamma):
    close(rewards_to_go(rewards, MASK, gamma), naive_gae(rewards, 0 * rewards, gamma, 1.0))


@pytest.mark.parametrize(("gamma", "lam"), GRID)
def test_gae_is_the_double_loop(rewards, values, gamma, lam):
    close(gae(rewards, values, MASK, gamma, lam), naive_gae(rewards, values, gamma, lam))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_1_is_returns_minus_value(rewards, values, gamma):
    expected = rewards_to_go(rewards, MASK, gamma) - masked(values, MASK)
    close(gae(rewards, values, MASK, gamma, 1.0), expected)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_0_is_the_td_residual(rewards, values, gamma):
    following = torch.cat([masked(values, MASK)[:, 1:], torch.zeros(4, 1)], dim=1)
    close(
        gae(rewards, values, MASK, gamma, 0.0), masked(rewards + gamma * following - values, MASK)
    )


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_exact_values_of_certain_rewards_leave_no_advantage(rewards, lam):
    close(gae(rewards, rewards_to_go(rewards, MASK), MASK, 1.0, lam), torch.zeros(4, 6).double())


def test_a_shifted_value_shifts_advantages_and_leaves_returns(rewards, values):
    before, after = (gae(rewards, v, MASK, 1.0, 1.0) for v in (values, values + 5))
    close(after, before - 5 * MASK)
    close(masked(after + values + 5, MASK), masked(before + values, MASK))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: penalised_rewards(a[:, 0], a, b, MASK, 0.3),
        lambda a, b: rewards_to_go(a, MASK, 0.9),
        lambda a, b: gae(a, b, MASK, 0.9, 0.95),
    ],
    ids=["penalised_rewards", "rewards_to_go", "gae"],
)
def test_what_is_masked_changes_not_one_bit_and_comes_back_as_0(rewards, values, function):
    result = function(poisoned(rewards), poisoned(values))
    assert torch.equal(result, function(rewards, values))
    assert (result[~MASK] == 0).all()


def test_inputs_are_left_alone(rewards, values):
    before = rewards.clone(), values.clone()
    gae(rewards, values, MASK, 1.0, 1.0)
    rewards_to_go(rewards, MASK)
    assert torch.equal(rewards, before[0])
    assert torch.equal(values, before[1])


# -- leave-one-out --------------------------------------------------------------------------------

ALL = torch.ones(6, dtype=torch.bool)
NAN = float("nan")


def test_a_baseline_is_the_mean_of_the_others_of_the_group():
    x = torch.tensor([1.0, 2.0, 6.0, 10.0, 20.0, 60.0]).double()
    expected = torch.tensor([4.0, 3.5, 1.5, 40.0, 35.0, 15.0]).double()
    close(leave_one_out(x, ALL, 3), expected)
    assert leave_one_out(x, ALL, 2).tolist() == [2.0, 1.0, 10.0, 6.0, 60.0, 20.0]


@pytest.mark.parametrize("samples", [2, 3, 6])
def test_no_response_is_in_its_own_baseline_nor_in_that_of_another_prompt(draw, samples):
    x = draw(6).requires_grad_()
    jacobian = torch.stack(
        [torch.autograd.grad(b, x, retain_graph=True)[0] for b in leave_one_out(x, ALL, samples)]
    )
    group = torch.arange(6) // samples
    others = (group[:, None] == group) & ~torch.eye(6, dtype=torch.bool)
    close(jacobian, others / torch.tensor(samples - 1).double())


def test_what_a_prompt_is_worth_leaves_no_trace_after_the_baseline(draw):
    x, of_prompt = draw(6), draw(2).repeat_interleave(3)
    close((x + of_prompt) - leave_one_out(x + of_prompt, ALL, 3), x - leave_one_out(x, ALL, 3))


def test_what_is_not_kept_is_in_nobodys_baseline_whatever_it_is():
    x = torch.tensor([1.0, NAN, 6.0, NAN, 20.0, NAN]).double()
    baselines = leave_one_out(x, ~x.isnan(), 3)
    assert baselines[[0, 2]].tolist() == [6.0, 1.0]
    # Alone in its group, 20 is its own baseline and teaches nothing.
    assert float(baselines[4]) == 20.0


def test_who_is_left_of_a_group_has_the_baseline_of_a_smaller_group(draw):
    x = draw(6)
    kept = torch.tensor([True, True, False, False, True, True])
    close(leave_one_out(x, kept, 3)[kept], leave_one_out(x[kept], ALL[:4], 2))
