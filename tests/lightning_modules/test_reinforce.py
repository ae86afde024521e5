"""REINFORCE by its formulas, written out token by token."""

from dataclasses import replace
from itertools import product
from math import exp

import pytest
import torch

from lightning_modules.errors import OptionError
from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import penalised_rewards
from lightning_modules.objectives.masked import masked
from lightning_modules.options.policies import BASELINES, IMPORTANCE, RETURNS
from lightning_modules.reinforce import Reinforce
from lightning_modules.rollouts.rollout import Rollout
from tests.lightning_modules.objectives.test_masked import on_ranks
from tests.lightning_modules.tiny_runs import make as make_tiny
from tests.lightning_modules.tiny_runs import run

SAMPLES, BETA = 2, 0.4
LENGTHS = (3, 1, 4, 2)
ROWS = len(LENGTHS)
MASK = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def make(**options) -> Reinforce:
    defaults = {"returns": "to_go", "baseline": "none", "importance": "none", "beta": BETA}
    grouped = {"prompts_per_iteration": ROWS // SAMPLES, "samples_per_prompt": SAMPLES}
    module = make_tiny("reinforce", **defaults | grouped | options)
    module.sum_over_ranks = lambda x: x
    return module


def draw(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(MASK.shape, generator=generator, dtype=torch.float64)


def rollout() -> Rollout:
    """With rewards as collected: the penalty at each token, the score at the last one."""
    old, ref = (masked(-draw(seed).abs(), MASK) for seed in (0, 1))
    scores = draw(2)[:, 0]
    return Rollout(
        prompt_mask=torch.ones(ROWS, 2).bool(),
        sequences=torch.zeros(ROWS, 2 + max(LENGTHS), dtype=torch.long),
        response_mask=MASK,
        stopped=torch.ones(ROWS).bool(),
        old_logprobs=old,
        entropy=masked(draw(3).abs(), MASK),
        ref_logprobs=ref,
        values=None,
        scores=scores,
        rewards=penalised_rewards(scores, old, ref, MASK, BETA),
    )


def moved(batch: Rollout) -> torch.Tensor:
    """Log-probabilities after a few updates."""
    return masked(batch.old_logprobs + 0.3 * draw(4), MASK).requires_grad_()


def psi(rewards: torch.Tensor, returns: str, gamma: float) -> list[list[float]]:
    """The whole return or the reward-to-go of each real token, as a double sum."""
    table = []
    for row, length in zip(rewards.tolist(), LENGTHS, strict=True):
        starts = range(length) if returns == "to_go" else [0] * length
        table.append([sum(gamma ** (s - t) * row[s] for s in range(t, length)) for t in starts])
    return table


def baselines(rewards: torch.Tensor, baseline: str, gamma: float) -> list[float]:
    """What is taken off every token of a response."""
    totals = [row[0] for row in psi(rewards, "sequence", gamma)]
    if baseline == "mean":
        return [sum(totals) / ROWS] * ROWS
    if baseline == "leave_one_out":
        return [totals[i ^ 1] for i in range(ROWS)]  # of a pair, the other one
    return [0.0] * ROWS


def check(actual: torch.Tensor, expected: list[list[float]]) -> None:
    table = torch.zeros(MASK.shape, dtype=torch.float64)
    for i, row in enumerate(expected):
        table[i, : len(row)] = torch.tensor(row, dtype=table.dtype)
    torch.testing.assert_close(actual, table, rtol=0, atol=1e-12)


def gradient(module: Reinforce, batch: Rollout, logprobs: torch.Tensor) -> torch.Tensor:
    """By what each log-probability is weighted in the end."""
    loss, _ = module.token_loss(batch, TokenOutputs(logprobs, None, None))
    return -torch.autograd.grad(loss.sum(), logprobs)[0]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize(("returns", "baseline"), list(product(RETURNS, BASELINES)))
def test_tokens_are_weighted_by_their_return_less_the_baseline(returns, baseline, gamma):
    batch = rollout()
    weighed = make(returns=returns, baseline=baseline, gamma=gamma).weigh(batch)
    of_response = baselines(batch.rewards, baseline, gamma)
    expected = [
        [q - b for q in row]
        for row, b in zip(psi(batch.rewards, returns, gamma), of_response, strict=True)
    ]
    check(weighed.advantages, expected)
    assert weighed.returns is None


def test_the_mean_baseline_is_that_of_all_ranks():
    whole = make(baseline="mean").weigh(rollout()).advantages

    def work(rows, all_reduce):
        module = make(baseline="mean")
        module.sum_over_ranks = all_reduce
        return module.weigh(rollout().select(torch.tensor(rows))).advantages

    # Unequal shares, so that a mean of means is another number.
    for rows, part in zip(([0], [1, 2, 3]), on_ranks(work, [([0],), ([1, 2, 3],)]), strict=True):
        torch.testing.assert_close(part, whole[rows, : part.shape[1]], rtol=0, atol=1e-12)


def test_a_responses_own_score_does_not_move_its_leave_one_out_baseline():
    module, batch = make(baseline="leave_one_out"), rollout()
    scored = batch.rewards.clone()
    scored[0, LENGTHS[0] - 1] += 10
    before, after = (
        module.weigh(replace(batch, rewards=r)).advantages for r in (batch.rewards, scored)
    )
    assert (after - before)[0, : LENGTHS[0]].tolist() == pytest.approx([10] * LENGTHS[0])
    assert (after - before)[1, : LENGTHS[1]].tolist() == pytest.approx([-10] * LENGTHS[1])
    assert torch.equal(after[2:], before[2:])


@pytest.mark.parametrize("importance", IMPORTANCE)
@pytest.mark.parametrize(("returns", "baseline"), list(product(RETURNS, BASELINES)))
def test_at_the_policy_that_sampled_all_importance_weights_are_1(importance, returns, baseline):
    module = make(returns=returns, baseline=baseline, importance=importance)
    batch = module.weigh(rollout())
    weights = gradient(module, batch, batch.old_logprobs.clone().requires_grad_())
    torch.testing.assert_close(weights, batch.advantages, rtol=0, atol=1e-14)


def test_without_importance_weights_the_weights_are_those_of_the_rollout():
    module = make()
    batch = module.weigh(rollout())
    assert torch.equal(gradient(module, batch, moved(batch)), batch.advantages)


def test_a_token_importance_weight_is_the_ratio_of_that_token():
    module = make(importance="token", baseline="mean")
    batch = module.weigh(rollout())
    new = moved(batch)
    rows = zip(*(x.tolist() for x in (new, batch.old_logprobs, batch.advantages)), strict=True)
    expected = [
        [exp(n - o) * a for n, o, a in zip(*row, strict=True)][:length]
        for row, length in zip(rows, LENGTHS, strict=True)
    ]
    check(gradient(module, batch, new), expected)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize(("returns", "baseline"), list(product(RETURNS, BASELINES)))
def test_a_sequence_importance_weight_goes_with_the_current_policys_rewards(
    returns, baseline, gamma
):
    """The ratio of whole responses, and -beta (log pi - log ref) of the policy as it is now."""
    options = {"returns": returns, "baseline": baseline, "gamma": gamma}
    module = make(importance="sequence", **options)
    batch = module.weigh(rollout())
    new = moved(batch)
    now = penalised_rewards(batch.scores, new, batch.ref_logprobs, MASK, BETA)
    ratios = [
        exp(sum(n - o for n, o in zip(*rows, strict=True)))
        for rows in zip(new.tolist(), batch.old_logprobs.tolist(), strict=True)
    ]
    # The baseline stays that of the rollout: a constant by which no token is favoured.
    of_response = baselines(batch.rewards, baseline, gamma)
    expected = [
        [w * (q - b) for q in row]
        for w, row, b in zip(ratios, psi(now, returns, gamma), of_response, strict=True)
    ]
    check(gradient(module, batch, new), expected)


def test_without_beta_only_the_ratio_is_recomputed():
    module = make(importance="sequence", beta=0.0)
    batch = module.weigh(replace(rollout(), ref_logprobs=None))
    new = moved(batch)
    ratio = (new - batch.old_logprobs).sum(-1, keepdim=True).exp().detach()
    torch.testing.assert_close(gradient(module, batch, new), ratio * batch.advantages)


@pytest.mark.parametrize("importance", IMPORTANCE)
def test_the_loss_is_logged_as_it_is_minimised(importance):
    module = make(importance=importance)
    batch = module.weigh(rollout())
    loss, stats = module.token_loss(batch, TokenOutputs(moved(batch), None, None))
    assert stats.keys() == {"policy_loss"}
    assert torch.equal(stats["policy_loss"], loss)


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_is_masked_changes_not_one_bit(baseline):
    module, batch = make(baseline=baseline, importance="sequence"), rollout()
    poisoned = replace(batch, rewards=batch.rewards.masked_fill(~MASK, torch.nan))
    assert torch.equal(module.weigh(poisoned).advantages, module.weigh(batch).advantages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"returns": "return"}, r"algo\.returns=return: must be one of sequence, to_go"),
        ({"baseline": "value"}, r"algo\.baseline=value: must be one of"),
        ({"baseline": None}, r"algo\.baseline=None: must be one of"),
        ({"importance": "tokens"}, r"algo\.importance=tokens: must be one of"),
        (
            {"baseline": "leave_one_out", "samples_per_prompt": 1},
            r"algo\.samples_per_prompt=1: algo\.baseline=leave_one_out needs at least 2",
        ),
        ({"epochs": 2}, r"algo\.importance=none: only the first of 2 updates"),
        ({"minibatches": 4}, r"algo\.importance=none: only the first of 4 updates"),
        ({"gamma": 2.0}, r"algo\.gamma=2\.0: must"),
    ],
)
def test_nonsense_is_refused_by_name(options, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        make(**options)


@pytest.mark.parametrize("importance", ["token", "sequence"])
def test_several_updates_are_off_policy_and_train(importance, tmp_path):
    options = {"importance": importance, "epochs": 2, "minibatches": 2, "baseline": "mean"}
    module, rows, rollouts = run("reinforce", tmp_path, **options)
    assert [row["train/steps"] for row in rows] == [4] * 3
    assert all(row["train/ratio_max"] > 1.001 for row in rows)
    assert all(rollout.values is rollout.returns is None for rollout in rollouts)
    assert module.model.value_parameters() == []


@pytest.mark.parametrize("algorithm", ["reinforce", "rloo"])
def test_one_update_is_on_policy(algorithm, tmp_path):
    _, rows, _ = run(algorithm, tmp_path)
    for row in rows:
        assert row["train/steps"] == 1
        assert row["train/ratio_max"] == pytest.approx(1, abs=1e-12)
        assert row["train/value_loss"] == row["train/clip_fraction"] == 0
        assert row["train/explained_variance"] == 0
