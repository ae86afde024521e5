"""PPO-CLIP (Schulman et al. 2017), as the lecture has it.

For each rollout: advantages by GAE, once; then K epochs of M minibatch steps on
    -min(w A, clip(w, 1 - eps, 1 + eps) A) + c (V - R)^2 / 2,   w = pi / pi_old.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_modules.actor_critic import TokenOutputs
from lightning_modules.objectives.advantages import gae
from lightning_modules.objectives.losses import clipped_value_error, ppo_clip, value_error
from lightning_modules.objectives.masked import whiten
from lightning_modules.options import require
from lightning_modules.policy import PolicyModule
from lightning_modules.rollout import Rollout


class PPO(PolicyModule):
    """The clipped surrogate with a learned value function."""

    def __init__(
        self,
        *,
        lam: float,
        clip_range: float | Sequence[float],
        dual_clip: float | None = None,
        value_clip_range: float | None = None,
        value_coef: float,
        whiten_advantages: bool,
        **common: Any,
    ):
        super().__init__(**common)
        require(0 <= lam <= 1, "algo.lam", lam, "must lie in [0, 1]")
        both = clip_range if isinstance(clip_range, Sequence) else (clip_range, clip_range)
        require(
            len(both) == 2 and all(isinstance(x, int | float) and x > 0 for x in both),
            "algo.clip_range",
            clip_range,
            "must be greater than 0: a number, or [low, high]",
        )
        require(
            dual_clip is None or dual_clip > 1,
            "algo.dual_clip",
            dual_clip,
            "must be greater than 1, or null to do without",
        )
        require(
            value_clip_range is None or value_clip_range > 0,
            "algo.value_clip_range",
            value_clip_range,
            "must be greater than 0, or null to do without",
        )
        require(value_coef >= 0, "algo.value_coef", value_coef, "must be at least 0")
        require(self.options.critic is not None, "algo.critic", None, "must be given: PPO has one")
        self.lam = lam
        self.clip_range = tuple(both)
        self.dual_clip = dual_clip
        self.value_clip_range = value_clip_range
        self.value_coef = value_coef
        self.whiten_advantages = whiten_advantages

    def weigh(self, rollout: Rollout) -> Rollout:
        mask = rollout.response_mask
        advantages = gae(rollout.rewards, rollout.values, mask, self.options.gamma, self.lam)
        returns = advantages + rollout.values
        if self.whiten_advantages:
            advantages = whiten(advantages, mask, self.sum_over_ranks)
        return replace(rollout, advantages=advantages, returns=returns)

    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        policy_loss, stats = ppo_clip(
            new.logprobs, batch.old_logprobs, batch.advantages, self.clip_range, self.dual_clip
        )
        if self.value_clip_range is None:
            value_loss = value_error(new.values, batch.returns)
        else:
            value_loss = clipped_value_error(
                new.values, batch.values, batch.returns, self.value_clip_range
            )
        stats |= {"policy_loss": policy_loss, "value_loss": value_loss}
        return policy_loss + self.value_coef * value_loss, stats
