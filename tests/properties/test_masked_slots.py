"""Whatever stands in padding, nothing that is computed changes by a single bit."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics, explained_variance
from lightning_modules.objectives.advantages import gae, penalised_rewards, rewards_to_go
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.losses import (
    clipped_value_error,
    policy_gradient,
    ppo_clip,
    value_error,
)
from lightning_modules.objectives.masked import aggregate, masked, masked_sum, moments, whiten
from tests.properties.drawing import (
    ALGORITHMS,
    FULLEST,
    actor_critic,
    attach,
    collected,
    make,
    near_policy,
    numbers,
    poisoned,
    poisons,
    property_of,
    real_tokens,
    rollouts,
    seeds,
    stepped,
)

# Each takes a rollout and gives what must stay as it is.
OBJECTIVES = {
    "masked": lambda r: masked(r.values, r.response_mask),
    "masked_sum": lambda r: masked_sum(r.values, r.response_mask),
    "aggregate": lambda r: aggregate(r.values, r.response_mask, len(r)),
    "moments": lambda r: torch.stack(moments(r.values, r.response_mask)),
    "whiten": lambda r: whiten(r.values, r.response_mask),
    "penalised_rewards": lambda r: penalised_rewards(
        r.scores, r.old_logprobs, r.ref_logprobs, r.response_mask, 0.3
    ),
    "rewards_to_go": lambda r: rewards_to_go(r.values, r.response_mask, 0.9),
    "gae": lambda r: gae(r.old_logprobs, r.values, r.response_mask, 0.9, 0.8),
    "gae of undiscounted": lambda r: gae(r.old_logprobs, r.values, r.response_mask, 1.0, 1.0),
}
# Each is per token; what it gives at padding is selected away by what sums it.
PER_TOKEN = {
    "k1": lambda r: k1(r.old_logprobs, r.ref_logprobs),
    "k3": lambda r: k3(r.old_logprobs, r.ref_logprobs),
    "policy_gradient": lambda r: policy_gradient(r.old_logprobs, r.values)[0],
    "ppo_clip": lambda r: ppo_clip(r.old_logprobs, r.ref_logprobs, r.values, (0.2, 0.3), 2.0)[0],
    "value_error": lambda r: value_error(r.values, r.ref_logprobs),
    "clipped_value_error": lambda r: clipped_value_error(
        r.values, r.old_logprobs, r.ref_logprobs, 0.2
    ),
}


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.dtype == y.dtype and torch.equal(x, y)


@pytest.mark.parametrize("name", OBJECTIVES)
@given(rollout=rollouts(), poison=poisons)
@property_of(30)
def test_padding_changes_no_bit_of_a_masked_objective(name, rollout, poison):
    function = OBJECTIVES[name]
    assert same_bits(function(rollout), function(poisoned(rollout, poison)))


@pytest.mark.parametrize("name", PER_TOKEN)
@given(rollout=rollouts(), poison=poisons)
@property_of(30)
def test_padding_changes_no_bit_of_a_sum_over_tokens_nor_of_its_gradient(name, rollout, poison):
    def sum_and_gradients(r):
        leaves = torch.stack([r.old_logprobs, r.values]).requires_grad_()
        # A model's outputs come masked; what else a rollout holds comes as it is.
        logprobs, values = masked(leaves, r.response_mask)
        terms = PER_TOKEN[name](replace(r, old_logprobs=logprobs, values=values))
        loss = aggregate(terms, r.response_mask, 3)
        (gradient,) = torch.autograd.grad(loss, leaves)
        return torch.cat([loss.detach()[None], gradient.flatten()])

    plain = sum_and_gradients(rollout)
    assert plain.isfinite().all()
    assert same_bits(plain, sum_and_gradients(poisoned(rollout, poison)))


@given(rollout=rollouts(), poison=poisons)
@property_of()
def test_padding_changes_no_bit_of_the_statistics(rollout, poison):
    def statistics(r):
        averages = Averages()
        add_statistics(averages, r, "rollout", 0.3)
        share = explained_variance(replace(r, returns=r.ref_logprobs), 0.3, lambda x: x)
        return averages.means(lambda x: x) | {"explained_variance": share}

    assert statistics(rollout) == statistics(poisoned(rollout, poison))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(), poison=poisons)
@property_of(20)
def test_padding_changes_no_bit_of_rewards_weights_and_returns(algorithm, rollout, poison):
    module = make(algorithm, normalise_scores=True, missing_eos_penalty=0.5)
    attach(module, actor_critic("recurrent", algorithm))
    plain = collected(module, rollout)
    module.shaping.load([0.0, 0.0, 0.0])
    other = collected(module, poisoned(rollout, poison))
    plain, other = real_tokens(plain), real_tokens(other)
    assert all(same_bits(plain[name], other[name]) for name in ("rewards", "advantages"))
    assert plain.keys() == other.keys()
    assert module.options.critic is None or same_bits(plain["returns"], other["returns"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(), poison=poisons, seed=seeds)
@property_of(20)
def test_padding_changes_no_bit_of_a_loss_nor_of_its_gradient(algorithm, rollout, poison, seed):
    module = make(algorithm)
    attach(module, actor_critic("recurrent", algorithm))
    weighed = collected(module, rollout)
    mask = rollout.response_mask

    def losses(r, padding):
        outputs = numbers(seed)(2, *mask.shape).masked_fill(~mask, padding).requires_grad_()
        logprobs, values = masked(outputs, mask)
        loss, stats = module.token_loss(r, TokenOutputs(logprobs, None, values))
        (gradient,) = torch.autograd.grad(aggregate(loss, mask, len(r)), outputs)
        kept = [masked(x.detach(), mask) for x in (loss, *stats.values())]
        return torch.cat([torch.stack(kept), gradient])

    plain = losses(weighed, 0.0)
    assert plain.isfinite().all()
    assert same_bits(plain, losses(poisoned(weighed, poison), poison))


def update(algorithm, rollout, seed, change=lambda rollout: rollout):
    """How an update moves the parameters, and its metrics; `change` is made to what is weighed."""
    module, model = make(algorithm), actor_critic("gpt2", algorithm)
    attach(module, model)
    return stepped(module, change(collected(module, near_policy(model, rollout, seed))))


@pytest.mark.parametrize("algorithm", FULLEST)
@given(rollout=rollouts(), poison=poisons, seed=seeds)
@property_of(8)
def test_padding_changes_no_bit_of_an_update(algorithm, rollout, poison, seed):
    plain, metrics = update(algorithm, rollout, seed)
    other, others = update(algorithm, rollout, seed, lambda r: poisoned(r, poison))
    assert same_bits(plain, other)
    assert metrics == others


@given(rollout=rollouts(), shift=st.sampled_from([-2.0, 0.0, 2.0]), seed=seeds)
@property_of(12)
def test_the_largest_ratio_is_that_of_a_real_token(rollout, shift, seed):
    # With a shift upwards all ratios are below 1, which is what padding has.
    mask, model = rollout.response_mask, actor_critic("gpt2")
    old = near_policy(model, rollout, seed)
    old = replace(old, old_logprobs=masked(old.old_logprobs + shift, mask))
    module = make("ppo")
    attach(module, model)
    with torch.no_grad():
        now = model(old.sequences, old.prompt_mask, mask, 1.0)
    largest = float((now.logprobs - old.old_logprobs)[mask].max().exp())
    metrics = module.update(collected(module, old))
    assert metrics["train/ratio_max"] == pytest.approx(largest, rel=1e-12)
