"""Updating a policy on a rollout: K epochs of M optimiser steps, and steps of the values alone."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.manual import ManualModule
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import explained_variance
from lightning_modules.metrics.update_statistics import UpdateStatistics
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.objectives.losses import value_error
from lightning_modules.objectives.masked import aggregate, masked
from lightning_modules.options.policies import PolicyOptions
from lightning_modules.rollouts.collection import Collector
from lightning_modules.rollouts.micro_batches import MicroBatches
from lightning_modules.rollouts.rollout import Rollout
from lightning_modules.rollouts.seeding import Stream, generator


class UpdatingModule(ManualModule):
    """Takes optimiser steps on rollouts. An algorithm says what the loss of a token is."""

    options: PolicyOptions
    model: ActorCritic
    micro_batches: MicroBatches
    collector: Collector  # of the rollouts
    beta: float  # the KL coefficient of this iteration

    @abstractmethod
    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each token (B, T) under the current policy, and stats (B, T) to average."""

    def update(self, rollout: Rollout) -> dict[str, float]:
        """K epochs of M optimiser steps on one rollout; returns the train/* metrics."""
        optimizer = self.optimizers()
        self._set_learning_rates(optimizer)
        statistics = UpdateStatistics(self.sum_over_ranks)
        begun = self.collector.begun_on(rollout)
        for minibatch in self._minibatches(rollout):
            self._accumulate(minibatch, statistics, begun)
            approx_kl = statistics.approx_kl()
            if self.options.target_kl is not None and approx_kl > self.options.target_kl:
                optimizer.zero_grad()
                break
            statistics.add_step(self.clipped_step(optimizer, self.options.max_grad_norm))
        ratio_max = self.trainer.strategy.reduce(statistics.ratio_max, reduce_op="max")
        return statistics.means() | {
            "train/ratio_max": float(ratio_max),
            "train/lr": optimizer.param_groups[0]["lr"],
            "train/explained_variance": explained_variance(rollout, self.beta, self.sum_over_ranks),
        }

    @property
    def warming_up(self) -> bool:
        """Whether only the value function learns in this iteration."""
        return self.current_epoch < self.options.critic_warmup

    def warm_up(self, rollout: Rollout) -> dict[str, float]:
        """As `update`, with as many optimiser steps, but of the value function alone."""
        self._set_learning_rates(self.optimizers())
        averages = Averages()
        for minibatch in self._minibatches(rollout):
            averages.merge(self.fit_values(minibatch))
        return averages.means(self.sum_over_ranks) | {
            "train/steps": 0,
            "train/explained_variance": explained_variance(rollout, self.beta, self.sum_over_ranks),
        }

    def fit_values(self, rollout: Rollout) -> Averages:
        """One optimiser step of the value function alone, on the rollout's `returns`; what its loss
        was before, and the norm of its gradient.
        """
        optimizer = self.optimizers()
        divisor = self.sum_over_ranks(self._count(rollout)).clamp(min=1)
        parameters = self.model.value_parameters()

        def backward() -> Averages:
            averages = Averages()
            optimizer.zero_grad()  # of a try that ran out of memory
            for part in rollout.micro_batches(*self.micro_batches.limits):
                masks = part.prompt_mask, part.response_mask
                values = self.model.values(part.sequences, *masks, part.prompt_of)
                errors = value_error(values, part.returns)
                self.manual_backward(aggregate(errors, part.response_mask, divisor))
                total = masked(errors, part.response_mask).sum()
                averages.add("train/value_loss", total, self._count(part))
            return averages

        with self.without_sync():
            averages = self.micro_batches.within_memory(backward, len(rollout))
        for parameter in parameters:
            parameter.grad = self.sum_over_ranks(parameter.grad)
        norm = self.clipped_step(optimizer, self.options.max_grad_norm, parameters)
        averages.add("train/grad_norm", norm)
        return averages

    def _minibatches(self, rollout: Rollout) -> Iterator[Rollout]:
        """Every sequence once an epoch, each epoch in an order of its own."""
        order = self._order()
        for _ in range(self.options.epochs):
            yield from rollout.minibatches(self.options.minibatches, order)

    def _order(self) -> torch.Generator:
        """What the orders of this iteration's epochs are drawn with."""
        return generator(
            self.options.seed, Stream.MINIBATCHES, self.current_epoch, self.global_rank
        )

    def _accumulate(
        self,
        minibatch: Rollout,
        statistics: UpdateStatistics,
        begun: list[Iterator[TokenOutputs]] | None = None,
    ) -> None:
        """The gradient of one optimiser step, in micro-batches; `begun`: its passes, if they are,
        which are taken from there.
        """
        # A minibatch may hold no response that was scored.
        divisor = self.sum_over_ranks(self._count(minibatch)).clamp(min=1)
        gradient = partial(self._gradient, minibatch, divisor, begun)
        for seen in self.micro_batches.within_memory(gradient, len(minibatch)):
            statistics.add(*seen)

    def _gradient(
        self, minibatch: Rollout, divisor: Tensor, begun: list[Iterator[TokenOutputs]] | None
    ) -> list[tuple]:
        """Adds up the gradient anew; returns what is to be counted of each micro-batch."""
        self.optimizers().zero_grad()  # of a try that ran out of memory
        seen = []
        parts = list(minibatch.micro_batches(*self.micro_batches.limits))
        for part in parts:
            masks = (part.prompt_mask, part.response_mask)
            if begun and len(parts) == 1:  # memory may have run out since then
                passes = begun.pop()
            else:
                passes = self.passes(part.sequences, *masks, part.prompt_of)
            for new in passes:
                token_losses, stats = self.token_loss(part, new)
                if self.options.entropy_coef > 0:
                    token_losses = token_losses - self.options.entropy_coef * new.entropy
                loss = aggregate(token_losses, part.response_mask, divisor)
                self.accumulate(loss, last=part is parts[-1])
            # The last of the passes has seen all of the losses.
            stats = stats | {"loss": token_losses}
            stats = {name: x.detach() for name, x in stats.items()}
            seen.append((part, new.logprobs.detach(), stats, self._count(part)))
        return seen

    def passes(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None = None,
    ) -> Iterator[TokenOutputs]:
        """Forward passes of a micro-batch, for a backward pass each."""
        inputs = (sequences, prompt_mask, response_mask, self.options.temperature)
        options = {"entropy": self.options.entropy_coef > 0, "prompt_of": prompt_of}
        if self._trainer is not None and self.trainer.world_size > 1:
            yield self.model(*inputs, **options)  # DDP gathers gradients in one backward pass
        else:
            yield from self.model.passes(*inputs, **options)

    def _count(self, batch: Rollout) -> Tensor:
        """What losses are divided by: the number of sequences, or of tokens."""
        by_sequences = self.options.normalise == "sequences"
        return (batch.scored if by_sequences else batch.response_mask).sum().float()

    @property
    def limit(self) -> str:
        return self.micro_batches.option

    def not_finite(self) -> str:
        return (
            f"iteration {self.current_epoch + 1}: the gradient is not finite. The run's"
            " checkpoints hold the state before. A lower algo.optimizer.lr, a higher algo.beta"
            " or a smaller algo.max_grad_norm may help"
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser with two groups of parameters: of the policy, of the value function."""
        lr = self.options.optimizer.keywords["lr"]
        value = self.model.value_parameters()
        own = {id(p) for p in value}
        policy = [p for p in self.trained_parameters() if id(p) not in own]
        groups = [{"params": policy, "lr": lr, "initial_lr": lr}]
        if value:
            value_lr = self.options.value_lr or lr
            groups.append({"params": value, "lr": value_lr, "initial_lr": value_lr})
        return self.options.optimizer(groups)

    def _set_learning_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """A function of the iteration alone, so there is no schedule to resume."""
        decays = self.options.lr_decay == "linear"
        learnt = max(0, self.current_epoch - self.options.critic_warmup)
        left = 1 - learnt / self.options.iterations if decays else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * left
