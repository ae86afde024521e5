"""What the project says of a response, weighed by the response's exact probability."""

import pytest
import torch

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics, finish_statistics
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.masked import masked_sum
from lightning_modules.reinforce import Reinforce
from tests.exact.world import (
    OPTIONS,
    RESPONSES,
    STOP,
    bound,
    log_probabilities,
    optimum,
    rollout_of,
    score_table,
    tiny_lm,
)

KINDS = ("recurrent", "gpt2", "llama")
TEMPERATURES = (1.0, 0.7)
ALL = list(range(len(RESPONSES)))
LENGTHS = torch.tensor([len(y) for y in RESPONSES])


def module(lm, ref, scores, **options) -> Reinforce:
    common = {name: value for name, value in OPTIONS.items() if name != "critic"} | options
    algorithm = Reinforce(**common, returns="to_go", baseline="none", importance="none")
    return bound(algorithm, ActorCritic(lm), ref, scores)


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, in units of the largest of `b`."""
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("left_padding", [0, 3])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_probabilities_of_all_responses_add_up_to_1(kind, temperature, left_padding, measured):
    lm = tiny_lm(kind)
    rollout = rollout_of(
        module(lm, tiny_lm(kind, 1), score_table(), temperature=temperature),
        ALL,
        left_padding=left_padding,
    )
    logp = masked_sum(rollout.old_logprobs, rollout.response_mask)
    exact = log_probabilities(lm, temperature).detach()
    where = f"{kind}, temperature {temperature}, prompt padded by {left_padding}"
    measured(f"E1 the sum of pi(y) is 1: {where}", abs(logp.exp().sum() - 1), 1e-12)
    measured(f"E1 log pi(y) of every response: {where}", worst(logp, exact), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_response_has_the_same_probability_alone_and_beside_longer_ones(kind, measured):
    algorithm = module(tiny_lm(kind), tiny_lm(kind, 1), score_table())
    together = rollout_of(algorithm, ALL)
    alone = [rollout_of(algorithm, [i], left_padding=i % 3) for i in ALL]
    for name in ("old_logprobs", "ref_logprobs", "rewards"):
        sums = torch.cat([getattr(row, name).sum(-1) for row in alone])
        error = worst(sums, getattr(together, name).sum(-1))
        measured(f"E1 {name} of responses one by one and in a batch: {kind}", error, 1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_samples_expect_the_closed_sums(kind, temperature, measured):
    lm, ref, scores, beta = tiny_lm(kind), tiny_lm(kind, 1), score_table(), OPTIONS["beta"]
    logp = log_probabilities(lm, temperature).detach()
    logref = log_probabilities(ref, temperature).detach()
    p = logp.exp()
    rollout = rollout_of(module(lm, ref, scores, temperature=temperature), ALL)

    expected: dict[str, float] = {}
    for i, row in enumerate(rollout.micro_batches(1)):
        averages = Averages()
        add_statistics(averages, row, "rollout", beta)
        of_one = averages.means(lambda x: x)
        # A mean per token, where the closed sum is of sequences.
        of_one["rollout/entropy"] *= len(RESPONSES[i])
        for name, value in of_one.items():
            expected[name] = expected.get(name, 0) + float(p[i]) * value
    expected = finish_statistics(expected, "rollout")

    kl, mean = (p * (logp - logref)).sum(), (p * scores).sum()
    stopped = torch.tensor([y[-1] == STOP for y in RESPONSES])
    length = (p * LENGTHS).sum()
    covariance = (p * (scores - mean) * (LENGTHS - length)).sum()
    spreads = [(p * (x - x_mean) ** 2).sum() for x, x_mean in ((scores, mean), (LENGTHS, length))]
    exact = {
        "score": mean,
        "score_std": (p * (scores - mean) ** 2).sum().sqrt(),
        "kl": kl,
        "kl_k3": kl,
        "reward": mean - beta * kl,
        "entropy": -(p * logp).sum(),
        "length": length,
        "score_length_correlation": covariance / (spreads[0] * spreads[1]).sqrt(),
        "eos_rate": p[stopped].sum(),
    }
    assert expected.pop("rollout/unscored") == 0
    assert expected.keys() == {f"rollout/{name}" for name in exact}
    for name, truth in exact.items():
        error = abs(expected[f"rollout/{name}"] / truth - 1)
        measured(f"E2 E[rollout/{name}] is exact: {kind}, temperature {temperature}", error, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_a_padded_batch_are_means_over_its_rows_and_tokens(kind, measured):
    lm, ref, scores = tiny_lm(kind), tiny_lm(kind, 1), score_table()
    rollout = rollout_of(module(lm, ref, scores), ALL)
    batch, alone = Averages(), []
    add_statistics(batch, rollout, "rollout", OPTIONS["beta"])
    for row in rollout.micro_batches(1):
        alone.append(Averages())
        add_statistics(alone[-1], row, "rollout", OPTIONS["beta"])
    rows = [averages.means(lambda x: x) for averages in alone]
    means = batch.means(lambda x: x)
    assert means.pop("rollout/unscored") == 0
    for name, mean in means.items():
        weights = LENGTHS if name == "rollout/entropy" else torch.ones(len(ALL))
        truth = sum(float(w) * row[name] for w, row in zip(weights, rows, strict=True))
        error = abs(mean * float(weights.sum()) / truth - 1)
        measured(f"E2 {name} of a padded batch is its mean: {kind}", error, 1e-12)


@pytest.mark.parametrize("estimator", [k1, k3], ids=["k1", "k3"])
@pytest.mark.parametrize("kind", KINDS)
def test_token_estimators_of_kl_add_up_to_that_of_sequences(kind, estimator, measured):
    logp, logref = (log_probabilities(tiny_lm(kind, seed)).detach() for seed in (0, 1))
    rollout = rollout_of(module(tiny_lm(kind), tiny_lm(kind, 1), score_table()), ALL)
    tokens = estimator(rollout.old_logprobs, rollout.ref_logprobs)
    expected = (logp.exp() * masked_sum(tokens, rollout.response_mask)).sum()
    error = abs(expected / (logp.exp() * (logp - logref)).sum() - 1)
    measured(f"E2 {estimator.__name__} summed over tokens expects the KL: {kind}", error, 1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
def test_what_a_policy_lacks_of_the_best_is_beta_times_its_kl_from_the_optimum(beta, measured):
    """J(pi) = beta log Z - beta KL(pi || pi*), where the project's rewards say what J is."""
    errors = []
    for seed in range(20):
        lm, ref = tiny_lm("recurrent", seed), tiny_lm("recurrent", 100 + seed)
        scores = score_table(seed)
        logp = log_probabilities(lm).detach()
        log_optimum, best = optimum(ref, scores, beta)
        rollout = rollout_of(module(lm, ref, scores, beta=beta), ALL)
        objective = (logp.exp() * rollout.rewards.sum(-1)).sum()
        lacking = beta * (logp.exp() * (logp - log_optimum)).sum()
        errors.append(abs(objective - (best - lacking)) / (best.abs() + lacking))
    claim = f"E5 J = beta log Z - beta KL(pi, pi*), 20 policies and references: beta {beta}"
    measured(claim, torch.stack(errors).max(), 1e-12)
