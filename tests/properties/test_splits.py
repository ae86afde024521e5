"""However a step is split, into micro-batches or over ranks, it is the same step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics
from lightning_modules.rollouts.rollout import Rollout
from tests.properties.drawing import (
    ALGORITHMS,
    FULLEST,
    actor_critic,
    attach,
    collected,
    in_parallel,
    make,
    near_policy,
    on_ranks,
    property_of,
    real_tokens,
    rollouts,
    seeds,
    stepped,
)

SAME = 1e-10
splits = st.integers(1, 7)
budgets = st.integers(1, 40) | st.none()


def whole(algorithm: str, rollout: Rollout, **options):
    """In one piece: the weighed rollout, how an update moves the parameters, and the metrics."""
    module = make(algorithm, **options)
    attach(module, actor_critic("gpt2", algorithm))
    weighed = collected(module, rollout)
    return weighed, *stepped(module, weighed)


def same_metrics(one: dict, other: dict) -> bool:
    return one == pytest.approx(other, rel=SAME, abs=SAME)


@pytest.mark.parametrize("normalise", ["sequences", "tokens"])
@pytest.mark.parametrize("algorithm", FULLEST)
@given(rollout=rollouts(), size=splits | st.none(), tokens=budgets, seed=seeds)
@property_of(10)
def test_any_micro_batches_make_the_same_step(algorithm, normalise, rollout, size, tokens, seed):
    rollout = near_policy(actor_critic("gpt2"), rollout, seed)
    options = {"normalise": normalise, "entropy_coef": 0.1}
    _, step, metrics = whole(algorithm, rollout, **options)
    limits = {"micro_batch_size": size, "micro_batch_tokens": tokens}
    _, split, split_metrics = whole(algorithm, rollout, **options, **limits)
    assert torch.allclose(split, step, rtol=0, atol=SAME)
    assert same_metrics(split_metrics, metrics)


def divided(rollout: Rollout, cuts: list[int]) -> list[Rollout]:
    """Of each rank, its prompts with all their responses; ranks need not have equally many."""
    prompts = torch.arange(len(rollout)).view(-1, 2)
    places = sorted({1 + cut % (len(prompts) - 1) for cut in cuts})
    return [rollout.select(rows.flatten()) for rows in prompts.tensor_split(places)]


some_cuts = st.lists(st.integers(0, 3), min_size=1, max_size=2)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(min_prompts=2), cuts=some_cuts, size=splits, seed=seeds)
@property_of(8)
def test_any_ranks_make_the_same_step(algorithm, rollout, cuts, size, seed):
    model = actor_critic("gpt2", algorithm)
    rollout = near_policy(model, rollout, seed)
    options = {"normalise_scores": True, "missing_eos_penalty": 0.5, "score_clip": 1.0}
    weighed, step, metrics = whole(algorithm, rollout, **options)
    results = on_ranks(algorithm, model, divided(rollout, cuts), **options, micro_batch_size=size)
    parts = [real_tokens(part) for part, _, _ in results]
    for name, x in real_tokens(weighed).items():
        together = torch.cat([part[name] for part in parts])
        assert torch.allclose(together, x, rtol=0, atol=SAME), name
    for _, moved, rank_metrics in results:
        assert torch.allclose(moved, step, rtol=0, atol=SAME)
        assert same_metrics(rank_metrics, metrics)


@given(rollout=rollouts(), size=st.integers(2, 7))
@property_of(25)
def test_statistics_of_ranks_are_those_of_the_whole(rollout, size):
    def statistics(part, all_reduce):
        averages = Averages()
        add_statistics(averages, part, "rollout", 0.3)
        return averages.means(all_reduce)

    parts = list(rollout.micro_batches(size))
    expected = pytest.approx(statistics(rollout, lambda x: x), rel=0, abs=SAME)
    together = in_parallel(len(parts), lambda rank: statistics(parts[rank.rank], rank.sum))
    assert all(each == expected for each in together)
