"""Losses of policies and value functions, per token (B, T), to be minimised.

Each returns (loss, stats). Stats are detached, per token (B, T), and averaged by the caller.
"""

import torch
from torch import Tensor

Stats = dict[str, Tensor]


def policy_gradient(logprobs: Tensor, advantages: Tensor) -> tuple[Tensor, Stats]:
    """-A_t log pi(a_t | s_t): its gradient is minus the policy gradient (Williams 1992)."""
    return -advantages.detach() * logprobs, {}


def ppo_clip(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Stats]:
    """-min(w A, clip(w, 1 - eps, 1 + eps) A), w = pi / pi_old (Schulman et al. 2017, eq. 7).

    The lecture's cases say the same: for A > 0 the weight is cut at 1 + eps, for A < 0 it is kept
    at or above 1 - eps. It takes away the reason to leave the range, but does not forbid it.

    stats: `clip_fraction` 1 where clipping changes the loss, `ratio_outside` 1 where
    abs(w - 1) > eps.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    with torch.no_grad():
        stats = {
            "clip_fraction": (clipped * advantages < ratio * advantages).to(ratio.dtype),
            "ratio_outside": ((ratio - 1).abs() > clip_range).to(ratio.dtype),
        }
    return loss, stats


def value_error(values: Tensor, returns: Tensor) -> Tensor:
    """1/2 (V(s_t) - R_t)^2, shape (B, T); the targets R are constants."""
    return 0.5 * (values - returns.detach()).square()


def clipped_value_error(
    values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float
) -> Tensor:
    """The larger of the squared errors of V and of V kept within `clip_range` of the old V.

    As in OpenAI's PPO; the interval is centred at the values of the rollout, never at the new ones.
    """
    near = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum(value_error(values, returns), value_error(near, returns))
