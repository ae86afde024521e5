"""Estimators of KL(policy || reference) from samples of the policy, after Schulman (2020),
"Approximating KL divergence". All are per token, shape (B, T)."""

import torch
from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi - log ref. Summed over the tokens of a sequence and averaged over samples, this is the
    KL of sequences without bias. One sample of it can be negative.
    """
    return logprobs - ref_logprobs


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(-d) - 1 + d with d = log pi - log ref: unbiased as well, and never negative.

    For logging only: put in the reward or used as a loss, its gradient is not that of the KL.
    """
    difference = logprobs - ref_logprobs
    return torch.expm1(-difference) + difference


def adapted_beta(beta: float, kl: float, target: float, episodes: int, horizon: float) -> float:
    """The next beta of Ziegler et al. (2019), section 2.2: a proportional controller.

    `kl` is the mean KL of sequences in nats over the last `episodes` samples. Above `target` beta
    grows, below it shrinks, in `horizon` episodes by at most 20 %.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * episodes / horizon)
