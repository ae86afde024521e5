"""Where the policy is the reference there is no KL; where beta is 0 there is no reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics
from lightning_modules.objectives.advantages import penalised_rewards
from lightning_modules.objectives.divergences import adapted_beta, k1, k3
from tests.exact.world import RESPONSES, bound, rollout_of, score_table, tiny_lm
from tests.properties.drawing import (
    ALGORITHMS,
    FULLEST,
    OneProcess,
    actor_critic,
    make,
    property_of,
    rollouts,
)

some_responses = st.lists(st.integers(0, len(RESPONSES) - 1), min_size=2, max_size=6)
even_responses = some_responses.map(lambda responses: responses[: len(responses) // 2 * 2])
betas = st.floats(0.01, 10)


class Untouchable(nn.Module):
    """A reference that is not to be run."""

    def forward(self, *_, **__):
        raise AssertionError("the reference was run")


def statistics(rollout, beta):
    averages = Averages()
    add_statistics(averages, rollout, "rollout", beta)
    return averages.means(lambda x: x)


def trainable(module):
    """The module, ready for an update outside a Trainer."""
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    module._trainer.strategy = OneProcess()
    return module


@pytest.mark.parametrize("kind", ["recurrent", "gpt2", "llama"])
@given(responses=even_responses, left_padding=st.integers(0, 3), beta=betas)
@property_of(20)
def test_a_policy_that_is_its_reference_has_no_kl_by_any_estimator(
    kind, responses, left_padding, beta
):
    module = bound(make("ppo", beta=beta), actor_critic(kind), tiny_lm(kind), score_table())
    rollout = rollout_of(module, responses, left_padding=left_padding)
    for estimator in (k1, k3):
        assert not estimator(rollout.old_logprobs, rollout.ref_logprobs).any()
    of_rollout = statistics(rollout, beta)
    assert of_rollout["rollout/kl"] == of_rollout["rollout/kl_k3"] == 0
    assert of_rollout["rollout/reward"] == of_rollout["rollout/score"]
    assert torch.equal(rollout.rewards.sum(-1), rollout.scores.double())
    # The first update is made at the policy that sampled.
    metrics = trainable(module).update(rollout)
    assert metrics["train/clip_fraction"] == 0
    # Updates take off the padding that all rows have, which moves the last bits.
    assert metrics["train/ratio_max"] == pytest.approx(1, rel=0, abs=1e-12)
    assert metrics["train/approx_kl"] <= 1e-24


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(responses=even_responses)
@property_of(5)
def test_without_beta_the_reference_is_never_touched(algorithm, responses):
    module = make(algorithm, beta=0.0)
    bound(module, actor_critic("gpt2", algorithm), Untouchable(), score_table())
    rollout = rollout_of(module, responses)
    assert rollout.ref_logprobs is None
    assert torch.equal(rollout.rewards.sum(-1), rollout.scores.to(rollout.rewards.dtype))
    trainable(module).update(rollout)
    assert statistics(rollout, 0.0)["rollout/reward"] == float(rollout.scores.double().mean())


@pytest.mark.parametrize("algorithm", FULLEST)
def test_with_beta_the_reference_is_touched(algorithm):
    module = make(algorithm, beta=0.1)
    bound(module, actor_critic("gpt2", algorithm), Untouchable(), score_table())
    with pytest.raises(AssertionError, match="the reference was run"):
        rollout_of(module, [0, 1])


@given(rollout=rollouts())
@property_of()
def test_without_beta_rewards_do_not_look_at_the_reference(rollout):
    of_none, of_nan = (
        penalised_rewards(rollout.scores, rollout.old_logprobs, ref, rollout.response_mask, 0.0)
        for ref in (None, torch.full_like(rollout.old_logprobs, float("nan")))
    )
    assert torch.equal(of_none, of_nan)
    assert torch.equal(of_none.sum(-1), rollout.scores)


@given(rollout=rollouts(), beta=betas)
@property_of()
def test_rewards_sum_to_the_score_less_beta_times_the_log_ratio(rollout, beta):
    masks = rollout.response_mask
    rewards = penalised_rewards(
        rollout.scores, rollout.old_logprobs, rollout.ref_logprobs, masks, beta
    )
    for row, mask in enumerate(masks):
        kl = sum((rollout.old_logprobs - rollout.ref_logprobs)[row][mask].tolist())
        expected = float(rollout.scores[row]) - beta * kl
        assert float(rewards[row].sum()) == pytest.approx(expected, rel=0, abs=1e-12 * (1 + beta))


@given(
    beta=st.floats(1e-4, 10),
    kl=st.floats(-100, 100),
    target=st.floats(0.01, 50),
    episodes=st.integers(1, 1000),
    slowness=st.floats(1, 1000),
)
@property_of(200)
def test_beta_moves_by_a_fifth_in_a_horizon_at_most_and_towards_the_target(
    beta, kl, target, episodes, slowness
):
    moved = adapted_beta(beta, kl, target, episodes, slowness * episodes)
    rounding = 1e-12 * beta
    assert abs(moved - beta) <= 0.2 * beta / slowness + rounding
    assert moved > 0
    assert (moved - beta) * (kl - target) >= -rounding
    # Beyond a fifth off the target it goes as fast as it can.
    if kl > 1.21 * target:
        assert moved == pytest.approx(beta * (1 + 0.2 / slowness), rel=1e-12)
    if kl < 0.79 * target:
        assert moved == pytest.approx(beta * (1 - 0.2 / slowness), rel=1e-12)
    further = adapted_beta(beta, kl + 1, target, episodes, slowness * episodes)
    assert further >= moved
