"""The record of what was sampled: its parts, and what is said of it."""

from dataclasses import fields, replace
from math import isnan

import pytest
import torch

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import (
    add_statistics,
    explained_variance,
    finish_statistics,
    rollout_metrics,
    sampler_gap,
)
from lightning_modules.objectives.advantages import penalised_rewards, rewards_to_go
from lightning_modules.rollouts.rollout import Rollout

PROMPTS = (2, 4, 1, 3, 2, 4)
RESPONSES = (3, 1, 5, 2, 2, 1)


def alone(x):
    return x


@pytest.fixture
def rollout() -> Rollout:
    """Six sequences; what is real is random, what is padding is 0."""
    generator = torch.Generator().manual_seed(0)
    prompt_mask = torch.arange(4) >= 4 - torch.tensor(PROMPTS)[:, None]
    response_mask = torch.arange(5) < torch.tensor(RESPONSES)[:, None]

    def draw():
        x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
        return x * response_mask

    ids = torch.randint(1, 50, (6, 9), generator=generator)
    return Rollout(
        prompt_mask=prompt_mask,
        sequences=ids * torch.cat([prompt_mask, response_mask], dim=1),
        response_mask=response_mask,
        stopped=torch.tensor([True, False, True, True, False, True]),
        old_logprobs=draw(),
        entropy=draw(),
        ref_logprobs=draw(),
        values=draw(),
        scores=torch.tensor([1.0, -2.0, 3.0, 0.5, 0.0, 4.0]),
        sampler_logprobs=draw(),
        rewards=draw(),
        advantages=draw(),
        returns=draw(),
    )


def real(rollout: Rollout) -> list[dict]:
    """Of each sequence, what is not padding, as plain lists."""
    rows = []
    for b in range(len(rollout)):
        mask = rollout.response_mask[b]
        whole = torch.cat([rollout.prompt_mask[b], mask])
        row = {"ids": rollout.sequences[b][whole].tolist()}
        for f in fields(rollout):
            values = getattr(rollout, f.name)
            if f.name not in ("sequences", "prompt_mask") and values is not None:
                row[f.name] = values[b][mask].tolist() if values[b].ndim else values[b].item()
        rows.append(row)
    return rows


def padding(rollout: Rollout) -> tuple[bool, bool]:
    """Whether the outermost columns are real for some sequence."""
    return bool(rollout.prompt_mask[:, 0].any()), bool(rollout.response_mask[:, -1].any())


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_micro_batches_keep_the_order_and_trim_only_padding(rollout, size):
    parts = list(rollout.micro_batches(size))
    assert [row for part in parts for row in real(part)] == real(rollout)
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert all(padding(part) == (True, True) for part in parts)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_minibatches_are_a_partition_into_equal_parts(rollout, count):
    parts = list(rollout.minibatches(count, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [6 // count] * count
    rows = [row for part in parts for row in real(part)]
    assert sorted(rows, key=lambda r: r["scores"]) == sorted(
        real(rollout), key=lambda r: r["scores"]
    )


def test_minibatches_follow_their_generator(rollout):
    def order(generator):
        return [part.scores.item() for part in rollout.minibatches(6, generator)]

    generator = torch.Generator().manual_seed(0)
    first, second = order(generator), order(generator)
    assert first == order(torch.Generator().manual_seed(0))
    assert first != second


def test_what_is_absent_stays_absent(rollout):
    part = replace(rollout, ref_logprobs=None, values=None, returns=None).select(torch.tensor([1]))
    assert part.ref_logprobs is part.values is part.returns is None


def statistics(rollout, beta=0.1):
    averages = Averages()
    for part in rollout.micro_batches(4):
        add_statistics(averages, part, "x", beta)
    return finish_statistics(averages.means(alone), "x")


def correlation(scores, lengths):
    return torch.corrcoef(torch.stack([scores, torch.tensor(lengths).double()]))[0, 1]


def test_statistics_by_hand(rollout):
    rows = real(rollout)
    scores = torch.tensor([row["scores"] for row in rows], dtype=torch.float64)
    differences = [
        torch.tensor(row["old_logprobs"], dtype=torch.float64)
        - torch.tensor(row["ref_logprobs"], dtype=torch.float64)
        for row in rows
    ]
    kl = torch.stack([d.sum() for d in differences])
    kl_k3 = torch.stack([(torch.exp(-d) - 1 + d).sum() for d in differences])
    tokens = [e for row in rows for e in row["entropy"]]
    expected = {
        "x/unscored": 0.0,
        "x/score": float(scores.mean()),
        "x/score_std": float(scores.std(correction=0)),
        "x/kl": float(kl.mean()),
        "x/kl_k3": float(kl_k3.mean()),
        "x/reward": float((scores - 0.1 * kl).mean()),
        "x/entropy": sum(tokens) / len(tokens),
        "x/length": sum(RESPONSES) / 6,
        "x/score_length_correlation": float(correlation(scores, RESPONSES)),
        "x/eos_rate": 4 / 6,
    }
    assert statistics(rollout) == pytest.approx(expected, rel=1e-12)


def test_the_gap_of_the_sampler_by_hand(rollout):
    rows = real(rollout)
    gaps = [
        abs(a - b)
        for row in rows
        for a, b in zip(row["sampler_logprobs"], row["old_logprobs"], strict=True)
    ]
    metrics = rollout_metrics(rollout, 0.1, alone)
    assert metrics["rollout/sampler_gap_mean"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-12)
    assert float(sampler_gap(rollout).max()) == pytest.approx(max(gaps), rel=1e-12)
    unknown = replace(rollout, sampler_logprobs=None)
    assert "rollout/sampler_gap_mean" not in rollout_metrics(unknown, 0.1, alone)


def test_what_is_masked_changes_no_statistic(rollout):
    gaps = ~rollout.response_mask
    poisoned = {
        name: getattr(rollout, name).masked_fill(gaps, float("nan"))
        for name in ("old_logprobs", "ref_logprobs", "entropy", "values", "returns")
    }
    assert statistics(replace(rollout, **poisoned)) == statistics(rollout)
    explained = explained_variance(rollout, 0.1, alone)
    assert explained_variance(replace(rollout, **poisoned), 0.1, alone) == explained


def test_without_a_reference_there_is_no_kl_and_reward_is_score(rollout):
    metrics = statistics(replace(rollout, ref_logprobs=None), beta=0.0)
    assert not any("kl" in name for name in metrics)
    assert metrics["x/reward"] == metrics["x/score"]


def test_equal_scores_have_no_spread(rollout):
    equal = replace(rollout, scores=torch.full((6,), 0.1))
    assert statistics(equal)["x/score_std"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("slope", "expected"), [(0.3, 1.0), (-2.0, -1.0), (0.0, 0.0)])
def test_scores_that_are_a_line_of_the_length_are_wholly_correlated(rollout, slope, expected):
    lined = replace(rollout, scores=0.1 + slope * torch.tensor(RESPONSES).double())
    found = statistics(lined)["x/score_length_correlation"]
    assert found == pytest.approx(expected, abs=1e-9)
    assert -1 <= found <= 1


def test_unscored_responses_are_in_no_correlation(rollout):
    scores = rollout.scores.clone()
    scores[2] = float("nan")
    mask = rollout.response_mask.clone()
    mask[2] = False
    left = [0, 1, 3, 4, 5]
    found = statistics(replace(rollout, scores=scores, response_mask=mask))
    expected = correlation(rollout.scores[left].double(), [RESPONSES[i] for i in left])
    assert found["x/score_length_correlation"] == pytest.approx(float(expected), rel=1e-6)


def values_that_explain(rollout, share):
    """Values whose error is independent of the returns' sign: Var(error) = (1 - share) Var."""
    mean = rollout.returns[rollout.response_mask].mean()
    values = mean + (rollout.returns - mean) * (1 - (1 - share) ** 0.5)
    return replace(rollout, values=values * rollout.response_mask)


@pytest.mark.parametrize("share", [1.0, 0.75, 0.0])
def test_explained_variance(rollout, share):
    explained = explained_variance(values_that_explain(rollout, share), 0.1, alone)
    assert explained == pytest.approx(share, abs=1e-12)


def test_values_on_the_wrong_side_explain_less_than_nothing(rollout):
    explained = explained_variance(replace(rollout, values=-rollout.returns), 0.1, alone)
    assert explained == pytest.approx(-3.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1, 7.3])
def test_constant_returns_leave_nothing_to_explain(rollout, value):
    """Constant but for the rounding of returns = advantages + values, as PPO computes them."""
    values = rollout.values.float()
    returns = (value - values) + values
    for constant in (torch.full_like(values, value), returns):
        found = explained_variance(replace(rollout, values=values, returns=constant), 0.1, alone)
        assert found == 0


@pytest.mark.parametrize("score", [0.0, 3.0])
def test_returns_of_log_ratios_that_are_rounding_leave_nothing_to_explain(rollout, score):
    """Equal scores, and a policy that is its reference but for the last bits of each."""
    logprobs = 9 * rollout.old_logprobs.float()
    ref_logprobs = logprobs * (1 + torch.finfo(torch.float32).eps * rollout.entropy.sign().float())
    mask, scores = rollout.response_mask, torch.full((6,), score)
    rewards = penalised_rewards(scores, logprobs, ref_logprobs, mask, 0.1)
    untold = replace(
        rollout,
        old_logprobs=logprobs,
        ref_logprobs=ref_logprobs,
        values=1e-4 * rollout.values.float(),
        returns=rewards_to_go(rewards, mask),
    )
    assert untold.returns[mask].unique().numel() > 1, "nothing was rounded"
    assert explained_variance(untold, 0.1, alone) == 0


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_small_differences_of_returns_are_explained_whatever_their_unit(rollout, size):
    """In float32, of a thousandth of the mean: some forty times what rounding is granted."""
    errors, mask = 1e-4 * rollout.values.sign(), rollout.response_mask
    returns = 1 + 1e-3 * rollout.returns
    share = 1 - float(errors[mask].var() / returns[mask].var())
    returns, errors = (size * returns).float(), (size * errors).float()
    small = replace(rollout, returns=returns, values=returns - errors, ref_logprobs=None)
    assert explained_variance(small, 0.0, alone) == pytest.approx(share, abs=1e-3)


def test_returns_that_are_not_finite_are_not_passed_over(rollout):
    broken = replace(rollout, returns=torch.full_like(rollout.returns, float("nan")))
    assert isnan(explained_variance(broken, 0.1, alone))
