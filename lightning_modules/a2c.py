"""Advantage actor-critic (Mnih et al. 2016, without its parallel actors), as the lecture has it
(docs/lecture.md).

For each rollout: advantages from the value function as it is; one policy step on
-A_t log pi(a_t | s_t); then a few steps of the value function towards the rewards-to-go R_t.
"""

from dataclasses import replace

from torch import Tensor

from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import gae, rewards_to_go
from lightning_modules.objectives.losses import policy_gradient, value_error
from lightning_modules.objectives.masked import whiten
from lightning_modules.options.policies import A2COptions
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.rollout import Rollout


class A2C(PolicyModule):
    """The policy gradient with learned values: lam=1 is reward-to-go minus V, lam=0 the one-step
    advantage r + gamma V(s') - V(s), and what is between is GAE.
    """

    options_class = A2COptions
    options: A2COptions

    def weigh(self, rollout: Rollout) -> Rollout:
        mask, gamma = rollout.response_mask, self.options.gamma
        advantages = gae(rollout.rewards, rollout.values, mask, gamma, self.options.lam)
        if self.options.whiten_advantages:
            advantages = whiten(advantages, mask, self.sum_over_ranks)
        returns = rewards_to_go(rollout.rewards, mask, gamma)
        return replace(rollout, advantages=advantages, returns=returns)

    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        policy_loss, stats = policy_gradient(new.logprobs, batch.advantages)
        value_loss = value_error(new.values, batch.returns)
        stats |= {"policy_loss": policy_loss, "value_loss": value_loss}
        return policy_loss + self.options.value_coef * value_loss, stats

    def update(self, rollout: Rollout) -> dict[str, float]:
        metrics = super().update(rollout)
        self._go_on_with_values(rollout)
        return metrics

    def warm_up(self, rollout: Rollout) -> dict[str, float]:
        metrics = super().warm_up(rollout)
        self._go_on_with_values(rollout)
        return metrics

    def _go_on_with_values(self, rollout: Rollout) -> None:
        for _ in range(self.options.value_updates - 1):
            self.fit_values(rollout)
