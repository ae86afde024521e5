"""Responses that the reward cannot score leave the update: it is that of the others alone."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lightning_modules.errors import TrainingError
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import (
    add_statistics,
    explained_variance,
    finish_statistics,
)
from tests.exact.world import RESPONSES, bound, rollout_of, score_table, tiny_lm
from tests.lightning_modules import tiny_runs
from tests.lightning_modules.tiny_runs import run
from tests.properties.drawing import (
    ALGORITHMS,
    FULLEST,
    OneProcess,
    actor_critic,
    attach,
    collected,
    make,
    near_policy,
    on_ranks,
    per_token,
    rollout_of_lengths,
    stepped,
)

EQUAL = 1e-10
NAN = float("nan")
# Three responses to each of four prompts, of which two or three can be scored.
GROUPS = ((3, 100, 60), (7, 90, 110), (20, 45, 80), (15, 33, 119))
UNSCORED = (100, 7, 119)
OPTIONS = ({}, {"normalise": "tokens"}, {"normalise_scores": True, "missing_eos_penalty": 0.5})


def updated(algorithm, responses, unscored=(), *, worth=NAN, **options):
    """The weighed rollout of these responses, how an update moves the weights, and its metrics."""
    table = score_table()
    table[list(unscored)] = worth
    model = actor_critic("gpt2", algorithm)
    module = bound(make(algorithm, **options), model, tiny_lm("gpt2", 1), table)
    rollout = rollout_of(module, responses)
    module._trainer = SimpleNamespace(
        strategy=OneProcess(), world_size=1, global_rank=0, current_epoch=0
    )
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    return rollout, *stepped(module, rollout)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_update_is_that_of_the_scored_responses_alone(algorithm, options):
    """Where leave-one-out has two responses of each prompt left: a group of two."""
    responses = [i for group in GROUPS for i in group]
    # One of each group, so that what is left are groups of equal size.
    unscored = [*UNSCORED, 45]
    _, moved, metrics = updated(algorithm, responses, unscored, samples_per_prompt=3, **options)
    left = [i for i in responses if i not in unscored]
    _, expected, others = updated(algorithm, left, samples_per_prompt=2, **options)
    assert expected.norm() > 1e-3
    assert (moved - expected).abs().max() < EQUAL
    assert metrics == pytest.approx(others, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("algorithm", FULLEST)
def test_micro_batches_of_unscored_responses_change_nothing(algorithm, size):
    responses = [i for group in GROUPS for i in group]
    options = {"samples_per_prompt": 3}
    _, expected, _ = updated(algorithm, responses, UNSCORED, **options)
    _, moved, _ = updated(algorithm, responses, UNSCORED, micro_batch_size=size, **options)
    assert (moved - expected).abs().max() < EQUAL


def test_to_leave_a_response_out_is_not_to_give_it_nothing():
    responses = [i for group in GROUPS for i in group]
    _, left_out, _ = updated("rloo", responses, UNSCORED, samples_per_prompt=3)
    _, as_nothing, _ = updated("rloo", responses, UNSCORED, worth=0.0, samples_per_prompt=3)
    assert (left_out - as_nothing).abs().max() > 1e-3


def test_no_token_of_an_unscored_response_is_real():
    responses = [i for group in GROUPS for i in group]
    rollout, _, _ = updated("ppo", responses, UNSCORED)
    kept = torch.tensor([i not in UNSCORED for i in responses])
    assert torch.equal(rollout.scored, kept)
    assert rollout.scores.isnan().tolist() == (~kept).tolist()
    lengths = torch.tensor([len(RESPONSES[i]) for i in responses])
    assert torch.equal(rollout.response_mask.sum(-1), lengths * kept)
    for name, x in per_token(rollout).items():
        assert not x[~kept].any(), name


def test_the_only_scored_response_of_its_prompt_teaches_nothing_by_leave_one_out():
    rollout, _, _ = updated("rloo", [3, 100, 7, 90], [100])
    assert not rollout.advantages[0].any()
    assert rollout.advantages[2:].any(-1).all()


def test_statistics_are_of_the_scored_responses_and_say_how_many_were_not():
    responses = [i for group in GROUPS for i in group]
    rollout, _, _ = updated("ppo", responses, UNSCORED)
    left, _, _ = updated("ppo", [i for i in responses if i not in UNSCORED], samples_per_prompt=1)

    def statistics(rollout):
        averages = Averages()
        add_statistics(averages, rollout, "rollout", 0.3)
        return finish_statistics(averages.means(torch.clone), "rollout")

    found, expected = statistics(rollout), statistics(left)
    assert found.pop("rollout/unscored") == len(UNSCORED) / len(responses)
    assert expected.pop("rollout/unscored") == 0
    assert found == pytest.approx(expected, rel=1e-9)
    assert explained_variance(rollout, 0.3, torch.clone) == pytest.approx(
        explained_variance(left, 0.3, torch.clone), rel=1e-9
    )


@pytest.mark.parametrize("algorithm", FULLEST)
def test_a_rank_without_scored_responses_changes_nothing(algorithm):
    model = actor_critic("gpt2", algorithm)
    rollout = rollout_of_lengths([1, 2, 2, 1, 3, 3], [4, 1, 3, 2, 2, 4], 0, 4)
    rollout = near_policy(model, rollout, 0)
    scored = torch.tensor([True, True, False, False, True, True])
    mask = rollout.response_mask & scored[:, None]
    numbers = {name: x.masked_fill(~mask, 0.0) for name, x in per_token(rollout).items()}
    scores = rollout.scores.masked_fill(~scored, NAN)
    rollout = replace(rollout, response_mask=mask, scores=scores, **numbers)

    module, alone = make(algorithm), deepcopy(model)
    attach(module, alone)
    part = collected(module, rollout.select(torch.tensor([0, 1, 4, 5])))
    expected, _ = stepped(module, part)
    # The second rank has the responses that nobody could score.
    parts = [rollout.select(torch.tensor(rows)) for rows in ([0, 1, 4, 5], [2, 3])]
    for _, moved, _ in on_ranks(algorithm, model, parts):
        assert (moved - expected).abs().max() < EQUAL


class Some(tiny_runs.TableReward):
    """Responses of more than `longest` tokens cannot be scored."""

    def __init__(self, longest):
        super().__init__(score_table())
        self.longest = longest

    def score(self, responses):
        lengths = responses.response_mask.sum(-1)
        return super().score(responses).masked_fill(lengths > self.longest, NAN)


@pytest.mark.parametrize("algorithm", tiny_runs.ALGORITHMS)
def test_a_run_goes_on_with_some_unscored_and_says_how_many(algorithm, tmp_path):
    module, rows, rollouts = run(algorithm, tmp_path, reward=Some(2))
    assert len(rows) == module.options.iterations
    for row, rollout in zip(rows, rollouts, strict=True):
        share = float(rollout.scores.isnan().double().mean())
        assert float(row["rollout/unscored"]) == pytest.approx(share)
        assert 0 < share < 1
        assert torch.tensor(float(row["train/grad_norm"])).isfinite()
    assert all(p.isfinite().all() for p in module.model.parameters())
    assert 0 <= float(rows[-1]["val/unscored"]) <= 1


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_if_none_can_be_scored_the_run_stops_and_says_when(algorithm, tmp_path):
    with pytest.raises(TrainingError, match="iteration 1: the reward could score none"):
        run(algorithm, tmp_path, reward=Some(0))
