"""Permuting a batch permutes what comes out of it, and changes no number of the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics
from lightning_modules.objectives.advantages import leave_one_out
from lightning_modules.rewards.shaping import ScoreShaping
from tests.properties.drawing import (
    ALGORITHMS,
    FULLEST,
    actor_critic,
    attach,
    collected,
    make,
    near_policy,
    per_token,
    property_of,
    rollouts,
    scalar_model,
    seeds,
    stepped,
)
from tests.tolerances import WHITENING

SAMPLES = 2
EQUAL = 1e-12


def groups_permuted(count: int, seed: int) -> torch.Tensor:
    """An order of rows that moves whole prompts, and the responses of each prompt."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randperm(count // SAMPLES, generator=generator)
    orders = [torch.randperm(SAMPLES, generator=generator) + SAMPLES * p for p in prompts]
    return torch.cat(orders)


def close(x, y, times=1.0):
    return torch.allclose(x, y, rtol=0, atol=EQUAL * times)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@given(rollout=rollouts(), seed=seeds)
@property_of(12)
def test_outputs_and_scores_follow_their_rows(kind, rollout, seed):
    model, scorer = actor_critic(kind), scalar_model(kind)
    order = groups_permuted(len(rollout), seed)

    def say(rows):
        sequences, *masks = (
            x[rows] for x in (rollout.sequences, rollout.prompt_mask, rollout.response_mask)
        )
        with torch.no_grad():
            tokens = torch.cat(model(sequences, *masks, 1.0, entropy=True), dim=1)
            return torch.column_stack([tokens, scorer.score(sequences, torch.cat(masks, dim=1))])

    assert close(say(order), say(torch.arange(len(rollout)))[order])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(), seed=seeds)
@property_of(20)
def test_rewards_weights_and_returns_follow_their_rows(algorithm, rollout, seed):
    module = make(algorithm, normalise_scores=True)
    attach(module, actor_critic("recurrent", algorithm))
    order = groups_permuted(len(rollout), seed)
    plain = per_token(collected(module, rollout).select(order))
    module.shaping.load([0.0, 0.0, 0.0])
    permuted = per_token(collected(module, rollout.select(order)))
    assert plain.keys() == permuted.keys()
    for name, x in plain.items():
        assert close(permuted[name], x, WHITENING if name == "advantages" else 1.0), name


@pytest.mark.parametrize("algorithm", FULLEST)
@given(rollout=rollouts(), seed=seeds)
@property_of(8)
def test_an_update_forgets_the_order(algorithm, rollout, seed):
    order = groups_permuted(len(rollout), seed)

    def update(change):
        module, model = make(algorithm), actor_critic("gpt2", algorithm)
        attach(module, model)
        return stepped(module, change(collected(module, near_policy(model, rollout, seed))))

    plain, metrics = update(lambda r: r)
    permuted, others = update(lambda r: r.select(order))
    assert close(permuted, plain, WHITENING)
    assert metrics == pytest.approx(others, rel=0, abs=EQUAL * WHITENING)


@given(rollout=rollouts(), seed=seeds)
@property_of()
def test_statistics_forget_the_order(rollout, seed):
    def statistics(r):
        averages = Averages()
        add_statistics(averages, r, "rollout", 0.3)
        return averages.means(lambda x: x)

    order = groups_permuted(len(rollout), seed)
    expected = pytest.approx(statistics(rollout), rel=0, abs=EQUAL)
    assert statistics(rollout.select(order)) == expected


@given(
    groups=st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=1, max_size=5),
    data=st.data(),
)
@property_of()
def test_leave_one_out_follows_groups_and_their_members(groups, data):
    x = torch.tensor(groups, dtype=torch.float64)
    order = torch.tensor(data.draw(st.permutations(range(len(groups)))))
    inner = torch.tensor(data.draw(st.permutations(range(3))))
    kept = torch.ones(x.numel(), dtype=torch.bool)
    baselines = leave_one_out(x.flatten(), kept, 3).view(-1, 3)
    permuted = leave_one_out(x[order][:, inner].flatten(), kept, 3).view(-1, 3)
    assert close(permuted, baselines[order][:, inner])


@given(scores=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=9), data=st.data())
@property_of()
def test_shaped_scores_follow_their_rows(scores, data):
    order = torch.tensor(data.draw(st.permutations(range(len(scores)))))
    x, stopped = torch.tensor(scores, dtype=torch.float64), torch.arange(len(scores)) % 2 == 0

    def shape(x, stopped):
        shaping = ScoreShaping(normalise=True, clip=2.0, missing_eos_penalty=0.5)
        return shaping(x, stopped, lambda x: x)

    assert close(shape(x[order], stopped[order]), shape(x, stopped)[order])
