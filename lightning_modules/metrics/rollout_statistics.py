"""What a rollout looks like: the rollout/* and val/* metrics."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.metrics.averages import Averages
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.masked import masked_sum, moments
from lightning_modules.rollouts.rollout import Rollout

# What two equal float64 numbers may differ by after a few hundred thousand additions, relatively.
ROUNDING = 1e-12
# Roundings of a number that a network says, in units of its last place: dozens of layers, each of
# sums of thousands of terms whose errors partly cancel.
NETWORK_ROUNDINGS = 100


def rollout_metrics(
    rollout: Rollout, beta: float, all_reduce: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """rollout/* of one rollout over all ranks; `all_reduce` sums a tensor over them."""
    averages = Averages()
    add_statistics(averages, rollout, "rollout", beta)
    if (gap := sampler_gap(rollout)) is not None:
        averages.add_tokens("rollout/sampler_gap_mean", gap, rollout.response_mask)
    return finish_statistics(averages.means(all_reduce), "rollout")


def sampler_gap(rollout: Rollout) -> Tensor | None:
    """How far the log-probability that each token was sampled with is from the one that updates
    use, (B, T), 0 where the mask is False; None for responses that were not sampled here.
    """
    if rollout.sampler_logprobs is None:
        return None
    return (rollout.sampler_logprobs - rollout.old_logprobs).abs()


def add_statistics(averages: Averages, rollout: Rollout, prefix: str, beta: float) -> None:
    """Add the metrics that describe samples: score, reward, KL, entropy, length."""
    mask, kept = rollout.response_mask, rollout.scored
    scores = rollout.scores[kept]
    averages.add_rows(f"{prefix}/unscored", ~kept)
    averages.add_rows(f"{prefix}/score", scores)
    averages.add_rows(f"{prefix}/score_squared", scores.double().square())
    if rollout.ref_logprobs is not None:
        kl = masked_sum(k1(rollout.old_logprobs, rollout.ref_logprobs), mask)[kept]
        averages.add_rows(f"{prefix}/kl", kl)
        kl_k3 = masked_sum(k3(rollout.old_logprobs, rollout.ref_logprobs), mask)[kept]
        averages.add_rows(f"{prefix}/kl_k3", kl_k3)
        averages.add_rows(f"{prefix}/reward", scores - beta * kl)
    else:
        averages.add_rows(f"{prefix}/reward", scores)
    averages.add_tokens(f"{prefix}/entropy", rollout.entropy, mask)
    lengths = mask.sum(-1)[kept]
    averages.add_rows(f"{prefix}/length", lengths)
    averages.add_rows(f"{prefix}/length_squared", lengths.double().square())
    averages.add_rows(f"{prefix}/score_length", scores.double() * lengths)
    averages.add_rows(f"{prefix}/eos_rate", rollout.stopped[kept])


def finish_statistics(means: dict[str, float], prefix: str) -> dict[str, float]:
    """`score_std`, and `score_length_correlation` where lengths were gathered with the scores, in
    the place of the moments that they come from.
    """
    mean = means[f"{prefix}/score"]
    variance = _variance(means.pop(f"{prefix}/score_squared"), mean)
    means[f"{prefix}/score_std"] = variance**0.5
    product = means.pop(f"{prefix}/score_length", None)
    if product is not None:
        length = means[f"{prefix}/length"]
        both = variance * _variance(means.pop(f"{prefix}/length_squared"), length)
        name = f"{prefix}/score_length_correlation"
        means[name] = _bounded((product - mean * length) / both**0.5) if both else 0.0
    return means


def _variance(square: float, mean: float) -> float:
    """From the mean square; exactly 0 where the values differ by rounding only."""
    variance = square - mean**2
    return 0.0 if variance <= ROUNDING * square else variance


def _bounded(correlation: float) -> float:
    return min(max(correlation, -1.0), 1.0)


def explained_variance(
    rollout: Rollout, beta: float, all_reduce: Callable[[Tensor], Tensor]
) -> float:
    """1 - Var(returns - values) / Var(returns) over real tokens of all ranks.

    0 without a value function, and where the returns differ by rounding alone: there is nothing to
    explain then.
    """
    if rollout.values is None:
        return 0.0
    mask = rollout.response_mask
    _, error = moments(rollout.returns - rollout.values, mask, all_reduce)
    _, total = moments(rollout.returns, mask, all_reduce)
    rounding, spread = moments(_rounding(rollout, beta), mask, all_reduce)
    return 0.0 if total <= rounding**2 + spread else float(1 - error / total)


def _rounding(rollout: Rollout, beta: float) -> Tensor:
    """(B, T) what each return may be off by: eps (NETWORK_ROUNDINGS + T) times what it is made of.

    Log-probabilities, values and scores carry the roundings of a network, and each of at most T
    tokens adds some of its own. Terms may be large where their sum is small: the log-probabilities
    of a policy that is its reference, or advantages + values.
    """
    terms = rollout.returns.abs() + rollout.values.abs()
    if rollout.ref_logprobs is not None:
        terms = terms + beta * (rollout.old_logprobs.abs() + rollout.ref_logprobs.abs())
    eps = torch.finfo(rollout.returns.dtype).eps
    return eps * (NETWORK_ROUNDINGS + terms.shape[1]) * terms
