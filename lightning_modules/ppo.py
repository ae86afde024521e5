"""PPO-CLIP (Schulman et al. 2017), as the lecture has it (docs/lecture.md).

For each rollout: advantages by GAE, once; then K epochs of M minibatch steps on
    -min(w A, clip(w, 1 - eps, 1 + eps) A) + c (V - R)^2 / 2,   w = pi / pi_old.
"""

from dataclasses import replace

from torch import Tensor

from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import gae
from lightning_modules.objectives.losses import clipped_value_error, ppo_clip, value_error
from lightning_modules.objectives.masked import whiten
from lightning_modules.options.policies import PPOOptions
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.rollout import Rollout


class PPO(PolicyModule):
    """The clipped surrogate with a learned value function."""

    options_class = PPOOptions
    options: PPOOptions

    def weigh(self, rollout: Rollout) -> Rollout:
        mask, options = rollout.response_mask, self.options
        # A warm-up fits rewards-to-go, the targets without a bias: what lam < 1 takes of V is not
        # worth much yet, and of a score at the end the first tokens see lam^T.
        lam = 1.0 if self.warming_up else options.lam
        advantages = gae(rollout.rewards, rollout.values, mask, options.gamma, lam)
        returns = advantages + rollout.values
        if options.whiten_advantages:
            advantages = whiten(advantages, mask, self.sum_over_ranks)
        return replace(rollout, advantages=advantages, returns=returns)

    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        options = self.options
        policy_loss, stats = ppo_clip(
            new.logprobs,
            batch.old_logprobs,
            batch.advantages,
            options.clip_bounds,
            options.dual_clip,
        )
        if options.value_clip_range is None:
            value_loss = value_error(new.values, batch.returns)
        else:
            value_loss = clipped_value_error(
                new.values, batch.values, batch.returns, options.value_clip_range
            )
        stats |= {"policy_loss": policy_loss, "value_loss": value_loss}
        return policy_loss + options.value_coef * value_loss, stats
