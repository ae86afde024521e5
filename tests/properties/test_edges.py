"""Batches at the edge of what can be sampled: everything stays finite."""

from dataclasses import replace
from math import isfinite

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.metrics.rollout_statistics import rollout_metrics
from tests.exact.world import HORIZON, RESPONSES, STOP, bound, rollout_of, score_table, tiny_lm
from tests.properties.drawing import (
    ALGORITHMS,
    OneProcess,
    actor_critic,
    attach,
    collected,
    make,
    per_token,
    property_of,
    rollouts,
    stepped,
)

ONLY_STOP = RESPONSES.index((STOP,))
CUT = [i for i, y in enumerate(RESPONSES) if len(y) == HORIZON and y[-1] != STOP]
WITHOUT_GROUPS = [
    name for name, made in ALGORITHMS.items() if made.keywords.get("baseline") != "leave_one_out"
]
HARD = {
    "normalise_scores": True,
    "score_clip": 5.0,
    "missing_eos_penalty": 1.0,
    "entropy_coef": 0.01,
    "max_grad_norm": 1.0,
}


def assert_finite_throughout(module, rollout):
    """A weighed rollout, an update on it, and all that is logged."""
    assert all(x.isfinite().all() for x in per_token(rollout).values())
    step, metrics = stepped(module, rollout)
    assert step.isfinite().all()
    metrics |= rollout_metrics(rollout, module.beta, module.sum_over_ranks)
    metrics |= module._count_episodes(rollout, 1.0)
    assert all(map(isfinite, metrics.values())), metrics
    return metrics


def check(algorithm, rollout, **options):
    """The rollout through collect, update and metrics."""
    module = make(algorithm, **HARD | options)
    attach(module, actor_critic("gpt2", algorithm))
    weighed = collected(module, rollout)
    return weighed, assert_finite_throughout(module, weighed)


def through_the_collector(algorithm, responses):
    """What the project's collector makes of these responses, through an update and its metrics."""
    module = make(algorithm, **HARD)
    model, ref = actor_critic("gpt2", algorithm), tiny_lm("gpt2", seed=1)
    bound(module, model, ref, score_table())
    rollout = rollout_of(module, responses)
    module._trainer.strategy = OneProcess()
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    return rollout, assert_finite_throughout(module, rollout)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(st.just(1)))
@property_of(6)
def test_responses_of_one_token(algorithm, rollout):
    check(algorithm, rollout)


@pytest.mark.parametrize("algorithm", WITHOUT_GROUPS)
@given(rollout=rollouts(samples=1))
@property_of(6)
def test_one_response_alone(algorithm, rollout):
    check(
        algorithm, rollout.select(torch.tensor([0])), samples_per_prompt=1, prompts_per_iteration=2
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(responses=st.lists(st.sampled_from(CUT), min_size=1, max_size=3))
@property_of(4)
def test_batches_of_truncated_responses(algorithm, responses):
    rollout, _ = through_the_collector(algorithm, [y for y in responses for _ in range(2)])
    assert not rollout.stopped.any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("count", [2, 4])
def test_responses_that_are_the_stop_token_alone(algorithm, count):
    rollout, metrics = through_the_collector(algorithm, [ONLY_STOP] * count)
    # Equal responses have equal returns, but for the last bits: nothing is there to be explained.
    assert metrics["train/explained_variance"] == 0
    assert rollout.stopped.all()
    assert rollout.response_mask.shape == (count, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(responses=st.lists(st.sampled_from(CUT), min_size=1, max_size=2))
@property_of(3)
def test_the_stop_token_alone_beside_truncated_responses(algorithm, responses):
    rollout, _ = through_the_collector(
        algorithm, [y for cut in responses for y in (ONLY_STOP, cut)]
    )
    assert rollout.stopped.tolist() == [True, False] * len(responses)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(), score=st.floats(-100, 100, width=32))
@property_of(6)
def test_equal_rewards(algorithm, rollout, score):
    equal = replace(
        rollout,
        scores=torch.full_like(rollout.scores, score),
        ref_logprobs=rollout.old_logprobs,
        values=torch.zeros_like(rollout.values),
        stopped=torch.ones_like(rollout.stopped),
    )
    weighed, metrics = check(algorithm, equal, gamma=1.0)
    assert metrics["train/explained_variance"] == 0
    # Equal scores have no scale: normalised they are all 0, and there is nothing to learn.
    assert not weighed.rewards.any()
    assert not weighed.advantages.any()
