"""REINFORCE (Williams 1992), as the lecture has it (docs/lecture.md).

For each rollout, minimise -psi_t log pi(a_t | s_t), summed over a response's tokens, where psi_t is
the whole return of the response or, with the same expectation, the reward-to-go; either less a
baseline.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import leave_one_out, rewards_to_go
from lightning_modules.objectives.losses import policy_gradient
from lightning_modules.objectives.masked import masked, masked_sum
from lightning_modules.options.policies import ReinforceOptions
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.rollout import Rollout


class Reinforce(PolicyModule):
    """The log-derivative trick with Monte-Carlo returns and no learned value function."""

    options_class = ReinforceOptions
    options: ReinforceOptions

    def weigh(self, rollout: Rollout) -> Rollout:
        weights = self._returns(rollout.rewards, rollout.response_mask)
        total = rewards_to_go(rollout.rewards, rollout.response_mask, self.options.gamma)[:, 0]
        if self.options.baseline == "mean":
            total_and_count = torch.stack([total.sum(), rollout.scored.sum().to(total)])
            batch_sum, count = self.sum_over_ranks(total_and_count)
            weights = weights - batch_sum / count
        elif self.options.baseline == "leave_one_out":
            weights = weights - self._others(total, rollout)[:, None]
        return replace(rollout, advantages=masked(weights, rollout.response_mask))

    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        weights, moved = batch.advantages, (new.logprobs - batch.old_logprobs).detach()
        if self.options.importance == "token":
            weights = moved.exp() * weights
        elif self.options.importance == "sequence":
            # The regularised reward is the current policy's: its KL term moves with log pi.
            weights = weights - self._returns(self.beta * moved, batch.response_mask)
            weights = masked_sum(moved, batch.response_mask).exp()[:, None] * weights
        loss, stats = policy_gradient(new.logprobs, weights)
        return loss, stats | {"policy_loss": loss}

    def _others(self, total: Tensor, rollout: Rollout) -> Tensor:
        """The mean return of the other responses to the same prompt, (B,)."""
        return leave_one_out(total, rollout.scored, self.options.samples_per_prompt)

    def _returns(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """psi_t without a baseline, (B, T): reward-to-go, or the same whole return everywhere."""
        to_go = rewards_to_go(rewards, mask, self.options.gamma)
        if self.options.returns == "to_go":
            return to_go
        return masked(to_go[:, :1].expand_as(to_go), mask)
