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
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_range: tuple[float, float],
    dual_clip: float | None = None,
) -> tuple[Tensor, Stats]:
    """-min(w A, clip(w, 1 - low, 1 + high) A), w = pi / pi_old (Schulman et al. 2017, eq. 7).

    The lecture's cases say the same: for A > 0 the weight is cut at 1 + high, for A < 0 it is kept
    at or above 1 - low. It takes away the reason to leave the range, but does not forbid it: for
    A < 0 the loss grows with w without bound, unless `dual_clip` (c > 1) bounds the objective from
    below by c A (Ye et al. 2020, eq. 5). `clip_range` is (low, high).

    stats: `clip_fraction` 1 where clipping changes the loss, `ratio_outside` 1 where w < 1 - low or
    w > 1 + high.
    """
    low, high = clip_range
    ratio = torch.exp(logprobs - old_logprobs)
    plain = ratio * advantages
    objective = torch.minimum(plain, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual_clip is not None:
        bounded = torch.maximum(objective, dual_clip * advantages)
        objective = torch.where(advantages < 0, bounded, objective)
    with torch.no_grad():
        stats = {
            "clip_fraction": (objective != plain).to(ratio.dtype),
            "ratio_outside": ((ratio < 1 - low) | (ratio > 1 + high)).to(ratio.dtype),
        }
    return -objective, stats


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
