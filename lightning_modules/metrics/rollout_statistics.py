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


def rollout_metrics(
    rollout: Rollout, beta: float, all_reduce: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """rollout/* of one rollout over all ranks; `all_reduce` sums a tensor over them."""
    averages = Averages()
    add_statistics(averages, rollout, "rollout", beta)
    return finish_statistics(averages.means(all_reduce), "rollout")


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


def explained_variance(rollout: Rollout, all_reduce: Callable[[Tensor], Tensor]) -> float:
    """1 - Var(returns - values) / Var(returns) over real tokens of all ranks.

    NaN where the returns are equal up to rounding: there is nothing to explain then. 0 without a
    value function.
    """
    if rollout.values is None:
        return 0.0
    _, error = moments(rollout.returns - rollout.values, rollout.response_mask, all_reduce)
    mean, total = moments(rollout.returns, rollout.response_mask, all_reduce)
    rounding = (mean.abs() * torch.finfo(rollout.returns.dtype).eps * 4) ** 2
    return float(1 - error / total) if total > rounding else float("nan")
