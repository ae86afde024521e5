"""What was sampled and all that is known about it: the frozen record that an update works on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lightning_modules.averages import Averages
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.masked import masked_sum, moments

# What two equal float64 numbers may differ by after a few hundred thousand additions, relatively.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Rollout:
    """B sequences of P prompt tokens, padded on the left, and T response tokens.

    Only `response_mask` says what is real in the response; masked slots of per-token tensors are 0.
    """

    prompt_mask: Tensor  # (B, P) True on the tokens of the prompt
    sequences: Tensor  # (B, P+T) prompt and response ids
    response_mask: Tensor  # (B, T) True up to and including the stop token; nowhere if unscored
    stopped: Tensor  # (B,) True where the policy ended the answer itself
    old_logprobs: Tensor  # (B, T) of the policy that sampled
    entropy: Tensor  # (B, T) exact, of its distribution at each state
    ref_logprobs: Tensor | None  # (B, T) of the reference; None if it was not run (beta = 0)
    values: Tensor | None  # (B, T) V(s_t) at the time of sampling; None without a critic
    scores: Tensor  # (B,) what the reward source said, NaN where it could not score
    rewards: Tensor | None = None  # (B, T) after the KL penalty
    advantages: Tensor | None = None  # (B, T) what each token's log-probability is weighted by
    returns: Tensor | None = None  # (B, T) what the value function learns

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def scored(self) -> Tensor:
        """(B,) True for the answers that take part; a reward may have nothing to say of some."""
        return self.response_mask.any(-1)

    def select(self, rows: Tensor) -> "Rollout":
        """Some of the sequences, without the columns that are padding for all of them."""
        chosen = {
            f.name: value[rows] if (value := getattr(self, f.name)) is not None else None
            for f in fields(self)
        }
        prompt_length = self.prompt_mask.shape[1]
        start = int(chosen["prompt_mask"].any(0).long().argmax())
        end = max(1, int(chosen["response_mask"].sum(-1).max()))
        chosen["prompt_mask"] = chosen["prompt_mask"][:, start:]
        chosen["sequences"] = chosen["sequences"][:, start : prompt_length + end]
        for name, value in chosen.items():
            if value is not None and value.ndim == 2 and name not in ("prompt_mask", "sequences"):
                chosen[name] = value[:, :end]
        return replace(self, **chosen)

    def minibatches(self, count: int, generator: torch.Generator) -> Iterator["Rollout"]:
        """All sequences once, in a random order, in `count` equal parts: an epoch of updates."""
        order = torch.randperm(len(self), generator=generator).to(self.sequences.device)
        for rows in order.chunk(count):
            yield self.select(rows)

    def micro_batches(self, size: int) -> Iterator["Rollout"]:
        """Parts of at most `size` sequences, for memory's sake; they change no result."""
        for rows in torch.arange(len(self), device=self.sequences.device).split(size):
            yield self.select(rows)

    def add_statistics(self, averages: Averages, prefix: str, beta: float) -> None:
        """Add the metrics that describe samples: score, reward, KL, entropy, length."""
        kept, scores = self.scored, self.scores[self.scored]
        averages.add_rows(f"{prefix}/unscored", ~kept)
        averages.add_rows(f"{prefix}/score", scores)
        averages.add_rows(f"{prefix}/score_squared", scores.double().square())
        if self.ref_logprobs is not None:
            kl = masked_sum(k1(self.old_logprobs, self.ref_logprobs), self.response_mask)[kept]
            averages.add_rows(f"{prefix}/kl", kl)
            kl_k3 = masked_sum(k3(self.old_logprobs, self.ref_logprobs), self.response_mask)[kept]
            averages.add_rows(f"{prefix}/kl_k3", kl_k3)
            averages.add_rows(f"{prefix}/reward", scores - beta * kl)
        else:
            averages.add_rows(f"{prefix}/reward", scores)
        averages.add_tokens(f"{prefix}/entropy", self.entropy, self.response_mask)
        lengths = self.response_mask.sum(-1)[kept]
        averages.add_rows(f"{prefix}/length", lengths)
        averages.add_rows(f"{prefix}/length_squared", lengths.double().square())
        averages.add_rows(f"{prefix}/score_length", scores.double() * lengths)
        averages.add_rows(f"{prefix}/eos_rate", self.stopped[kept])


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
