"""From scores to the numbers by which tokens are weighted."""

import torch
from torch import Tensor

from lightning_modules.objectives.masked import masked


def last_token(mask: Tensor) -> Tensor:
    """(B, T) True on the last real token of each sequence, the action that ended the episode."""
    following = torch.zeros_like(mask)
    following[:, :-1] = mask[:, 1:]
    return mask & ~following


def penalised_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor | None, mask: Tensor, beta: float
) -> Tensor:
    """Per-token rewards (B, T): -beta (log pi - log ref) everywhere, plus the score at the end.

    Their sum is the sequence's score - beta * KL (k1). They are constants: nothing is
    differentiated through them. `ref_logprobs` may be None when beta is 0.
    """
    rewards = scores[:, None] * last_token(mask)
    if beta != 0:
        rewards = rewards - beta * (logprobs - ref_logprobs)
    return masked(rewards, mask).detach()


def rewards_to_go(rewards: Tensor, mask: Tensor, gamma: float = 1.0) -> Tensor:
    """Q_t = sum_{l >= 0} gamma^l r_{t+l}, shape (B, T); 0 where `mask` is False."""
    result = masked(rewards, mask)
    for t in range(result.shape[1] - 2, -1, -1):
        result[:, t] += gamma * result[:, t + 1]
    return masked(result, mask)


def leave_one_out(x: Tensor, kept: Tensor, samples: int) -> Tensor:
    """For each of B = N * samples numbers, the mean of the others of its group (Kool et al. 2019).

    The `samples` of a prompt stand beside each other. A response's own number is not in its
    baseline, which therefore depends on the prompt and on other samples only: no bias. Numbers that
    are not `kept` (B,) are in nobody's baseline; one that has no others is its own: it then tells
    nothing.
    """
    groups, counted = x.view(-1, samples), kept.view(-1, samples)
    groups = masked(groups, counted)
    others = counted.sum(-1, keepdim=True) - counted.to(x.dtype)
    mean = (groups.sum(-1, keepdim=True) - groups) / others.clamp(min=1)
    return mean.where(others > 0, groups).flatten()


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16), shape (B, T).

    A_t = sum_l (gamma lam)^l delta_{t+l},  delta_t = r_t + gamma V_{t+1} - V_t,  V = 0 after the
    last real token. lam=0 is the one-step advantage, lam=1 is reward-to-go minus value. Slots where
    `mask` is False contribute nothing and come back as 0.
    """
    values = masked(values, mask)
    next_values = torch.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    deltas = masked(rewards, mask) + gamma * next_values - values
    return rewards_to_go(deltas, mask, gamma * lam)
