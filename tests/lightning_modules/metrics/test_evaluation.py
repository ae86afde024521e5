"""Win rates and their intervals, and an evaluation that says the same twice."""

import pytest
import torch

from lightning_modules.metrics.evaluation import SAME_SCORE, Evaluation, outcomes
from lightning_modules.metrics.intervals import wilson_interval
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.micro_batches import MicroBatches
from tests.tolerances import of_model


def alone(x):
    return x


@pytest.mark.parametrize(
    ("score", "other", "expected"),
    [(2.0, 1.0, 1.0), (1.0, 2.0, 0.0), (1.0, 1.0, 0.5), (1.0, 1.0 + SAME_SCORE / 2, 0.5)],
    ids=["win", "loss", "tie", "rounding"],
)
def test_outcomes(score, other, expected):
    assert outcomes(torch.tensor([score]), torch.tensor([other])).tolist() == [expected]
    assert outcomes(torch.tensor([other]), torch.tensor([score])).tolist() == [1 - expected]


@pytest.mark.parametrize(
    ("wins", "count", "low", "high"),
    [
        (50, 100, 0.40383, 0.59617),
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (81, 263, 0.25525, 0.36621),
    ],
)
def test_wilson_interval_by_known_numbers(wins, count, low, high):
    interval = wilson_interval(wins / count, count)
    assert interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("wins", "count"), [(1, 7), (9, 10), (123, 1000)])
def test_wilson_interval_is_where_the_score_test_rejects(wins, count):
    share = wins / count
    for bound in wilson_interval(share, count):
        z = (share - bound) / (bound * (1 - bound) / count) ** 0.5
        assert abs(z) == pytest.approx(1.959964, rel=1e-9)


def test_no_trials_say_nothing():
    assert wilson_interval(float("nan"), 0) == (0.0, 1.0)


class Scores(Reward):
    """A number that any text has."""

    def __init__(self):
        self.scored = 0

    def score(self, responses):
        self.scored += len(responses.texts)
        return torch.tensor([float(len(set(text))) for text in responses.texts])


@pytest.fixture
def collector(lm, encoder):
    other = type(lm)(lm.config).eval()
    other.load_state_dict({k: 0.8 * x for k, x in lm.state_dict().items()})
    return Collector(
        model=ActorCritic(lm, None, None),
        reference=Reference(other, shares_policy=False),
        reward=Scores(),
        vocabulary=Vocabulary(encoder.stop_ids, encoder.pad_id, 6, encoder.decode),
        temperature=1.0,
        micro_batches=MicroBatches(8),
    )


@pytest.fixture
def batches(world, encoder):
    """Two batches of unequal size."""
    prompts = world.prompts("val")
    return [batch_of(encoder, prompts, places) for places in (range(5), (50, 51))]


def batch_of(encoder, prompts, places):
    part = [prompts[place] for place in places]
    ids, mask = encoder.pad(encoder.prompts(part), "left")
    return {"prompts": part, "places": list(places), "prompt_ids": ids, "prompt_mask": mask}


def gold(prompt, text):
    return len(prompt.text) + len(text) / 100


def run(evaluation, batches):
    evaluation.reset()
    for i, batch in enumerate(batches):
        evaluation.step(batch, i, 0.1)
    return evaluation.metrics(alone)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_metrics_are_the_means_of_the_rows(collector, batches):
    evaluation = Evaluation(collector, gold, 0)
    metrics, rows = run(evaluation, batches), evaluation.rows
    pairs = [[row["score"], row["reference_score"]] for row in rows]
    scores = torch.tensor(pairs, dtype=torch.float64).T
    expected = {
        "val/score": mean(row["score"] for row in rows),
        "val/gold": mean(row["gold"] for row in rows),
        "val/win_rate": float(outcomes(*scores).mean()),
        "reference/score": mean(row["reference_score"] for row in rows),
        "reference/gold": mean(row["reference_gold"] for row in rows),
        "reference/score_std": float(scores[1].std(correction=0)),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert metrics["val/reward"] == pytest.approx(metrics["val/score"] - 0.1 * metrics["val/kl"])
    interval = metrics["val/win_rate_ci_low"], metrics["val/win_rate_ci_high"]
    assert interval == wilson_interval(metrics["val/win_rate"], 7)


def test_rows_hold_the_prompt_both_responses_and_what_they_are_worth(collector, batches):
    evaluation = Evaluation(collector, gold, 0)
    run(evaluation, batches)
    prompts = [p for batch in batches for p in batch["prompts"]]
    assert [row["prompt"] for row in evaluation.rows] == [p.text for p in prompts]
    for prompt, row in zip(prompts, evaluation.rows, strict=True):
        assert row["gold"] == gold(prompt, row["answer"])
        assert row["reference_gold"] == gold(prompt, row["reference_answer"])
        assert row["score"] == len(set(row["answer"]))


def test_evaluating_twice_says_the_same_and_samples_the_reference_once(collector, batches):
    evaluation = Evaluation(collector, gold, 0)
    first = run(evaluation, batches)
    assert collector.reward.scored == 2 * 7
    assert run(evaluation, batches) == first
    assert collector.reward.scored == 3 * 7
    assert len(evaluation.rows) == 7


def said(evaluation):
    return [(row["prompt"], row["answer"], row["reference_answer"]) for row in evaluation.rows]


def test_the_responses_depend_on_the_seed_and_on_each_prompts_place(collector, batches):
    (batch, _), moved = batches, dict(batches[0])
    moved["places"] = [place + 1 for place in moved["places"]]
    found = []
    for seed, part in ((0, batch), (1, batch), (0, moved)):
        evaluation = Evaluation(collector, None, seed)
        evaluation.step(part, 0, 0.1)
        found.append(evaluation.rows)
    for name in ("answer", "reference_answer"):
        assert len({tuple(row[name] for row in rows) for rows in found}) == 3


@pytest.mark.parametrize(
    "places", [[range(7)], [range(3), range(3, 7)], [(6, 0), (5, 2, 4), (1, 3)]]
)
def test_neither_batches_nor_their_order_change_what_is_found(collector, world, encoder, places):
    """As with another micro-batch size, another evaluation.batch_size, or on another rank."""
    prompts, results = world.prompts("val"), []
    for parts in ([[place] for place in range(7)], places):
        evaluation = Evaluation(collector, gold, 0)
        metrics = run(evaluation, [batch_of(encoder, prompts, part) for part in parts])
        results.append((sorted(said(evaluation)), metrics))
    (alone_said, alone_metrics), (said_together, metrics) = results
    assert said_together == alone_said
    assert metrics == pytest.approx(alone_metrics, rel=1e-4, abs=1e-5)


def test_policy_and_reference_do_not_share_their_noise(collector, batches, lm):
    collector.reference = Reference(lm, shares_policy=False)
    evaluation = Evaluation(collector, None, 0)
    metrics = run(evaluation, batches)
    assert abs(metrics["val/kl"]) <= metrics["val/length"] * of_model(lm)
    assert any(row["answer"] != row["reference_answer"] for row in evaluation.rows)


def test_two_ranks_keep_the_means_and_narrow_the_interval(collector, batches):
    evaluation = Evaluation(collector, gold, 0)
    one = run(evaluation, batches)
    two = evaluation.metrics(lambda x: 2 * x)
    assert two["val/score"] == one["val/score"]
    assert two["reference/gold"] == one["reference/gold"]
    assert two["val/win_rate_ci_high"] < one["val/win_rate_ci_high"]


def test_without_a_gold_none_is_reported(collector, batches):
    evaluation = Evaluation(collector, None, 0)
    assert not any("gold" in name for name in run(evaluation, batches))
    assert not any("gold" in name for name in evaluation.rows[0])


class Picky(Scores):
    """Texts with an even number of characters cannot be scored."""

    def score(self, responses):
        even = torch.tensor([len(text) % 2 == 0 for text in responses.texts])
        return super().score(responses).masked_fill(even, float("nan"))


def test_responses_without_a_score_are_counted_and_compared_with_nobody(collector, batches):
    collector.reward = Picky()
    evaluation = Evaluation(collector, gold, 0)
    metrics, rows = run(evaluation, batches), evaluation.rows
    scores = [row["score"] for row in rows]
    references = [row["reference_score"] for row in rows]
    assert scores == [None if len(r["answer"]) % 2 == 0 else len(set(r["answer"])) for r in rows]
    known = [score for score in scores if score is not None]
    assert 0 < len(known) < len(rows)
    assert metrics["val/unscored"] == pytest.approx(1 - len(known) / len(rows))
    assert metrics["val/score"] == pytest.approx(mean(known))
    kept = [score for score in references if score is not None]
    assert 0 < len(kept) < len(rows)
    assert metrics["reference/score"] == pytest.approx(mean(kept))
    pairs = zip(scores, references, strict=True)
    both = torch.tensor([pair for pair in pairs if None not in pair])
    assert 0 < len(both) < len(known)
    assert metrics["val/win_rate"] == pytest.approx(float(outcomes(*both.T).mean()))
    interval = metrics["val/win_rate_ci_low"], metrics["val/win_rate_ci_high"]
    assert interval == wilson_interval(metrics["val/win_rate"], len(both))
    # The gold does not depend on the reward.
    assert metrics["val/gold"] == pytest.approx(mean(row["gold"] for row in rows))


def test_a_missing_score_is_neither_a_win_nor_a_loss():
    nan = float("nan")
    found = outcomes(torch.tensor([nan, 1.0, nan]), torch.tensor([1.0, nan, nan]))
    assert found.isnan().all()
