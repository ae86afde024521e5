"""Laws of returns and advantages, against the definition written out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.objectives.advantages import gae, leave_one_out, rewards_to_go
from lightning_modules.objectives.masked import masked, whiten
from tests.exact.world import DTYPE
from tests.properties.drawing import (
    actor_critic,
    attach,
    collected,
    make,
    numbers,
    property_of,
    rollouts,
)

EQUAL = 1e-12
rates = st.floats(0, 1)
shifts = st.floats(-10, 10)


def close(x, y):
    return torch.allclose(x, y, rtol=0, atol=EQUAL)


def rewards_and_values(rollout):
    return rollout.ref_logprobs, rollout.values, rollout.response_mask


def residuals(rewards, values, mask, gamma):
    """r_t + gamma V_{t+1} - V_t row by row, with nothing after a row's end."""
    result = torch.zeros_like(rewards)
    for b, n in enumerate(mask.sum(-1).tolist()):
        for t in range(n):
            after = gamma * values[b, t + 1] if t + 1 < n else 0.0
            result[b, t] = rewards[b, t] + after - values[b, t]
    return result


def discounted_sums(x, mask, rate):
    """sum_l rate^l x_{t+l}: all pairs of a token and a later one, by one triangle of powers."""
    places = torch.arange(x.shape[1], dtype=DTYPE)
    distances = places - places[:, None]
    powers = torch.where(distances >= 0, rate ** distances.clamp(min=0), 0.0)
    return masked(masked(x, mask) @ powers.T, mask)


@given(rollout=rollouts(), gamma=rates, lam=rates)
@property_of()
def test_gae_is_the_sum_of_its_definition(rollout, gamma, lam):
    rewards, values, mask = rewards_and_values(rollout)
    deltas = residuals(rewards, values, mask, gamma)
    expected = discounted_sums(deltas, mask, gamma * lam)
    assert close(gae(rewards, values, mask, gamma, lam), expected)


@given(rollout=rollouts(), gamma=rates)
@property_of()
def test_rewards_to_go_are_the_sum_of_their_definition(rollout, gamma):
    rewards, _, mask = rewards_and_values(rollout)
    assert close(rewards_to_go(rewards, mask, gamma), discounted_sums(rewards, mask, gamma))


@given(rollout=rollouts(), gamma=rates)
@property_of()
def test_with_lambda_1_it_is_returns_less_values(rollout, gamma):
    rewards, values, mask = rewards_and_values(rollout)
    returns = discounted_sums(rewards, mask, gamma)
    assert close(gae(rewards, values, mask, gamma, 1.0), returns - values)


@given(rollout=rollouts(), gamma=rates)
@property_of()
def test_with_lambda_0_it_is_the_td_residual(rollout, gamma):
    rewards, values, mask = rewards_and_values(rollout)
    assert close(gae(rewards, values, mask, gamma, 0.0), residuals(rewards, values, mask, gamma))


@given(rollout=rollouts(), gamma=rates, lam=rates, scale=st.floats(-3, 3))
@property_of()
def test_gae_is_linear_in_rewards_and_values(rollout, gamma, lam, scale):
    rewards, values, mask = rewards_and_values(rollout)
    other = numbers(7)(2, *mask.shape)
    together = gae(rewards + scale * other[0], values + scale * other[1], mask, gamma, lam)
    apart = gae(rewards, values, mask, gamma, lam) + scale * gae(*other, mask, gamma, lam)
    assert close(together, apart)


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
@given(rollout=rollouts(), shift=shifts)
@property_of(25)
def test_values_shifted_at_lambda_1_shift_advantages_back_and_leave_returns(
    algorithm, rollout, shift
):
    module = make(algorithm, lam=1.0, whiten_advantages=False)
    attach(module, actor_critic("recurrent", algorithm))
    mask = rollout.response_mask
    plain = collected(module, rollout)
    shifted = collected(module, replace(rollout, values=masked(rollout.values + shift, mask)))
    assert close(shifted.advantages, masked(plain.advantages - shift, mask))
    assert close(shifted.returns, plain.returns)


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
@given(rollout=rollouts())
@property_of(25)
def test_whitening_changes_advantages_and_no_return(algorithm, rollout):
    def weighed(on):
        module = make(algorithm, whiten_advantages=on)
        attach(module, actor_critic("recurrent", algorithm))
        return collected(module, rollout)

    plain, white = weighed(False), weighed(True)
    assert torch.equal(white.returns, plain.returns)
    assert torch.equal(white.advantages, whiten(plain.advantages, rollout.response_mask))


@pytest.mark.parametrize("algorithm", ["a2c", "a2c, whitened", "ppo", "ppo, all bounds"])
@given(rollout=rollouts(), shift=shifts)
@property_of(25)
def test_a_constant_of_the_prompt_in_score_and_value_leaves_advantages(algorithm, rollout, shift):
    module = make(algorithm, gamma=1.0)
    attach(module, actor_critic("recurrent", algorithm))
    # Neighbours response the same prompt.
    constants = (shift * torch.arange(len(rollout) // 2, dtype=DTYPE)).repeat_interleave(2)
    plain = collected(module, rollout)
    shifted = replace(
        rollout,
        scores=rollout.scores + constants,
        values=masked(rollout.values + constants[:, None], rollout.response_mask),
    )
    # Whitening divides by a spread that may be small: rounding of sums near 30 is divided too.
    assert torch.allclose(
        collected(module, shifted).advantages, plain.advantages, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("algorithm", ["rloo", "reinforce, sequence weights"])
@given(rollout=rollouts(), shift=shifts)
@property_of(25)
def test_a_constant_of_the_prompt_leaves_leave_one_out_advantages(algorithm, rollout, shift):
    module = make(algorithm, gamma=1.0)
    attach(module, actor_critic("recurrent", algorithm))
    constants = (shift * torch.arange(len(rollout) // 2, dtype=DTYPE)).repeat_interleave(2)
    plain = collected(module, rollout)
    shifted = collected(module, replace(rollout, scores=rollout.scores + constants))
    assert close(shifted.advantages, plain.advantages)


@given(rollout=rollouts(), shift=shifts)
@property_of(25)
def test_one_constant_leaves_advantages_over_the_batch_mean(rollout, shift):
    module = make("reinforce to go, mean", gamma=1.0)
    attach(module, actor_critic("recurrent", "reinforce"))
    plain = collected(module, rollout)
    shifted = collected(module, replace(rollout, scores=rollout.scores + shift))
    assert close(shifted.advantages, plain.advantages)


@given(
    groups=st.lists(st.lists(shifts, min_size=4, max_size=4), min_size=1, max_size=4),
    own=shifts,
    place=st.integers(0, 3),
)
@property_of()
def test_a_responses_own_score_is_not_in_its_baseline(groups, own, place):
    x = torch.tensor(groups, dtype=DTYPE)
    changed = x.clone()
    changed[0, place] = own
    kept = torch.ones(x.numel(), dtype=torch.bool)
    baselines, others = (
        leave_one_out(each.flatten(), kept, 4).view(-1, 4) for each in (x, changed)
    )
    assert abs(baselines[0, place] - others[0, place]) < EQUAL * 100
    # What leave-one-out takes from the scores of a group adds up to their sum.
    assert torch.allclose(baselines.sum(-1), x.sum(-1), rtol=0, atol=1e-11)


@given(rollout=rollouts(st.integers(2, 5)), scale=st.floats(0.1, 10), shift=shifts)
@property_of()
def test_whitening_forgets_shift_and_scale(rollout, scale, shift):
    x, mask = rollout.values, rollout.response_mask
    white = whiten(x, mask, eps=0.0)
    real = white[mask]
    assert torch.allclose(whiten(scale * x + shift, mask, eps=0.0), white, rtol=0, atol=1e-9)
    assert abs(float(real.mean())) < EQUAL
    assert float(real.square().mean()) == pytest.approx(1, abs=EQUAL)
