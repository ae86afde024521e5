"""What every policy-gradient algorithm shares: collect a rollout, then update on it.

An algorithm adds two methods: `weigh` says by what each token's log-probability is weighted, and
`token_loss` is its loss. REINFORCE and A2C are the case epochs = minibatches = 1 of the same loop.

One training_step is one iteration of the lecture's box, and one Lightning epoch of one batch: an
epoch's end is the only place where Lightning's loops, validation, loggers and checkpoints agree
about what has been done, which resuming needs.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from lightning_modules.actor_critic import ActorCritic, Reference, TokenOutputs
from lightning_modules.averages import Averages
from lightning_modules.collection import Collector, Vocabulary
from lightning_modules.evaluation import Evaluation
from lightning_modules.manual import ManualModule, TrainingError
from lightning_modules.objectives.advantages import penalised_rewards
from lightning_modules.objectives.divergences import adapted_beta, k3
from lightning_modules.objectives.losses import value_error
from lightning_modules.objectives.masked import aggregate, masked
from lightning_modules.options import require
from lightning_modules.policy_options import AdaptiveBeta, PolicyOptions
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.shaping import ScoreShaping
from lightning_modules.rollout import Rollout, explained_variance, finish_statistics
from lightning_modules.seeding import Stream, generator

# What an algorithm without a value function, or without clipping, has none of: logged as 0.
OPTIONAL_STATISTICS = ("value_loss", "clip_fraction", "ratio_outside")


class PolicyModule(ManualModule):
    """Options come first and are checked at once; `bind` hands over the models when they exist."""

    strict_loading = False  # frozen weights are not in checkpoints, see on_save_checkpoint

    def __init__(self, *, name: str, adaptive_beta: dict[str, float] | None = None, **options: Any):
        super().__init__()
        self.name = name
        if adaptive_beta is not None:
            require(
                set(adaptive_beta) == {"target", "horizon"},
                "algo.adaptive_beta",
                adaptive_beta,
                "must be {target: nats, horizon: episodes}, or null",
            )
            adaptive_beta = AdaptiveBeta(**adaptive_beta)
        self.options = PolicyOptions(adaptive_beta=adaptive_beta, **options)
        self.beta = self.options.beta
        self.shaping = ScoreShaping(
            normalise=self.options.normalise_scores,
            clip=self.options.score_clip,
            missing_eos_penalty=self.options.missing_eos_penalty,
        )
        self.episodes = 0
        self.tokens = 0

    def bind(
        self,
        *,
        model: ActorCritic,
        reference: Reference,
        reward: Reward,
        vocabulary: Vocabulary,
        gold: Callable[[Any, str], float] | None,
        lr_multiplier: float = 1.0,
    ) -> Self:
        """Hand over the models. The frozen ones do not become children of this module."""
        self.model = model
        self.lr_multiplier = lr_multiplier
        self.collector = Collector(
            model=model,
            reference=reference,
            reward=reward,
            vocabulary=vocabulary,
            temperature=self.options.temperature,
            micro_batch_size=self.options.micro_batch_size,
        )
        self.evaluation = Evaluation(self.collector, gold, self.options.seed)
        return self

    # -- an algorithm is these two --------------------------------------------------------------

    @abstractmethod
    def weigh(self, rollout: Rollout) -> Rollout:
        """The rollout with `advantages` and, where there is a critic, `returns`: once a rollout."""

    @abstractmethod
    def token_loss(self, batch: Rollout, new: TokenOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each token (B, T) under the current policy, and stats (B, T) to average."""

    # -- the two verbs --------------------------------------------------------------------------

    def collect(self, batch: dict[str, Any]) -> tuple[Rollout, dict[str, float]]:
        """This iteration's rollout, weighed, and the seconds that its parts took."""
        noise = generator(self.options.seed, Stream.SAMPLING, self.current_epoch, self.global_rank)
        rollout, _, seconds = self.collector.collect(
            batch, noise, self.options.samples_per_prompt, with_reference=self.beta > 0
        )
        if self.sum_over_ranks(rollout.scored.sum().float()) == 0:
            raise TrainingError(
                f"iteration {self.current_epoch + 1}: the reward could score none of the answers"
            )
        # The price of leaving the reference at every token, the (shaped) score at the last one.
        rewards = penalised_rewards(
            self.shaping(rollout.scores, rollout.stopped, self.sum_over_ranks),
            rollout.old_logprobs,
            rollout.ref_logprobs,
            rollout.response_mask,
            self.beta,
        )
        return self.weigh(replace(rollout, rewards=rewards)), seconds

    def update(self, rollout: Rollout) -> dict[str, float]:
        """K epochs of M optimiser steps on one rollout; returns the train/* metrics."""
        optimizer = self.optimizers()
        self._set_learning_rates(optimizer)
        averages = Averages()
        ratio_max = torch.zeros(())
        steps = 0
        for minibatch in self._minibatches(rollout):
            ratio, approx_kl = self._accumulate(minibatch, averages)
            ratio_max = torch.maximum(ratio_max, ratio)
            if self.options.target_kl is not None and approx_kl > self.options.target_kl:
                optimizer.zero_grad()
                break
            norm = self.clipped_step(optimizer, self.options.max_grad_norm)
            averages.add("train/grad_norm", norm)
            steps += 1
        metrics = averages.means(self.sum_over_ranks)
        metrics["train/ratio_max"] = float(self.trainer.strategy.reduce(ratio_max, reduce_op="max"))
        metrics["train/steps"] = steps
        metrics["train/lr"] = optimizer.param_groups[0]["lr"]
        metrics["train/explained_variance"] = explained_variance(rollout, self.sum_over_ranks)
        return metrics

    def fit_values(self, rollout: Rollout) -> None:
        """One more optimiser step of the value function alone, on the rollout's `returns`."""
        optimizer = self.optimizers()
        divisor = self.sum_over_ranks(self._count(rollout)).clamp(min=1)
        parameters = self.model.value_parameters()
        with self.without_sync():
            for part in rollout.micro_batches(self.options.micro_batch_size):
                values = self.model.values(part.sequences, part.prompt_mask, part.response_mask)
                errors = value_error(values, part.returns)
                self.manual_backward(aggregate(errors, part.response_mask, divisor))
        for parameter in parameters:
            parameter.grad = self.sum_over_ranks(parameter.grad)
        self.clipped_step(optimizer, self.options.max_grad_norm, parameters)

    def _minibatches(self, rollout: Rollout) -> Iterator[Rollout]:
        """Every sequence once an epoch, each epoch in an order of its own."""
        order = generator(
            self.options.seed, Stream.MINIBATCHES, self.current_epoch, self.global_rank
        )
        for _ in range(self.options.epochs):
            yield from rollout.minibatches(self.options.minibatches, order)

    def _accumulate(self, minibatch: Rollout, averages: Averages) -> tuple[Tensor, float]:
        """The gradient of one optimiser step, in micro-batches.

        Returns the largest ratio on this rank, and train/approx_kl of the minibatch on all ranks.
        """
        # A minibatch may hold no answer that was scored.
        divisor = self.sum_over_ranks(self._count(minibatch)).clamp(min=1)
        parts = list(minibatch.micro_batches(self.options.micro_batch_size))
        ratios, divergence = [], Averages()
        for part in parts:
            new = self.model(
                part.sequences,
                part.prompt_mask,
                part.response_mask,
                self.options.temperature,
                entropy=self.options.entropy_coef > 0,
            )
            token_losses, stats = self.token_loss(part, new)
            if self.options.entropy_coef > 0:
                token_losses = token_losses - self.options.entropy_coef * new.entropy
            loss = aggregate(token_losses, part.response_mask, divisor)
            self.accumulate(loss, last=part is parts[-1])
            stats = {name: x.detach() for name, x in stats.items()}
            self._add_statistics(averages, part, stats | {"loss": token_losses.detach()})
            approx_kl = k3(part.old_logprobs, new.logprobs.detach())
            for each in (averages, divergence):
                each.add_tokens("train/approx_kl", approx_kl, part.response_mask)
            ratio = (new.logprobs.detach() - part.old_logprobs).exp()
            ratios.append(masked(ratio, part.response_mask).max())
        approx_kl = divergence.means(self.sum_over_ranks)["train/approx_kl"]
        return torch.stack(ratios).max(), approx_kl

    def _count(self, batch: Rollout) -> Tensor:
        """What losses are divided by: the number of sequences, or of tokens."""
        by_sequences = self.options.normalise == "sequences"
        return (batch.scored if by_sequences else batch.response_mask).sum().float()

    def _add_statistics(self, averages: Averages, part: Rollout, stats: dict[str, Tensor]) -> None:
        """Losses are averaged as they are minimised, everything else over tokens."""
        mask = part.response_mask
        for name in OPTIONAL_STATISTICS:
            stats.setdefault(name, torch.zeros_like(part.old_logprobs))
        for name, values in stats.items():
            if name.endswith("loss"):
                averages.add(f"train/{name}", masked(values, mask).sum(), self._count(part))
            else:
                averages.add_tokens(f"train/{name}", values, mask)

    def not_finite(self) -> str:
        return (
            f"iteration {self.current_epoch + 1}: the gradient is not finite. The run's"
            " checkpoints hold the state before. A lower algo.optimizer.lr, a higher algo.beta"
            " or a smaller algo.max_grad_norm may help"
        )

    # -- Lightning ------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser with two groups of parameters: of the policy, of the value function."""
        lr = self.options.optimizer.keywords["lr"] * self.lr_multiplier
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
        left = 1 - self.current_epoch / self.options.iterations if decays else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * left

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for: dropout would make ratios differ from 1
        at the first step, and log-probabilities differ from those of the sampler.
        """
        return super().train(False)

    def on_fit_start(self) -> None:
        share = self.options.sequences_per_iteration // self.trainer.world_size
        require(
            share % self.options.minibatches == 0,
            "algo.minibatches",
            self.options.minibatches,
            f"must divide the {share} sequences that each device has",
        )
        self.train()
        self.collector.to(self.device)

    def on_train_epoch_start(self) -> None:
        # The last iteration is always evaluated.
        last = self.current_epoch + 1 == self.options.iterations
        self.trainer.check_val_every_n_epoch = 1 if last else self.options.evaluate_every

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Tensors move; the prompts' records stay as they are."""
        return {k: x.to(device) if isinstance(x, Tensor) else x for k, x in batch.items()}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        started = time.perf_counter()
        rollout, seconds = self.collect(batch)
        collected = time.perf_counter()
        self.rollout = rollout  # the latest, for callbacks to look at
        metrics = self.update(rollout)
        ended = time.perf_counter()
        seconds |= {"time/update": ended - collected, "time/iteration": ended - started}
        before = self.episodes
        metrics |= self._rollout_metrics(rollout, seconds["time/iteration"])
        self.log_dict(metrics | seconds)
        if adaptive := self.options.adaptive_beta:
            self.beta = adapted_beta(
                self.beta,
                metrics["rollout/kl"],
                adaptive.target,
                self.episodes - before,
                adaptive.horizon,
            )

    def _rollout_metrics(self, rollout: Rollout, seconds: float) -> dict[str, float]:
        averages = Averages()
        rollout.add_statistics(averages, "rollout", self.beta)
        metrics = finish_statistics(averages.means(self.sum_over_ranks), "rollout")
        sizes = torch.tensor([len(rollout), rollout.response_mask.sum()], dtype=torch.float64)
        episodes, tokens = self.sum_over_ranks(sizes).tolist()
        self.episodes += int(episodes)
        self.tokens += int(tokens)
        return metrics | {
            "rollout/episodes": self.episodes,
            "rollout/tokens": self.tokens,
            "rollout/beta": self.beta,
            "throughput/episodes_per_s": episodes / seconds,
            "throughput/tokens_per_s": tokens / seconds,
        }

    def on_validation_epoch_start(self) -> None:
        self.collector.to(self.device)
        self.evaluation.reset()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.evaluation.step(batch, batch_idx, self.global_rank, self.beta)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.evaluation.metrics(self.sum_over_ranks))

    # -- checkpoints: what is trained, and how far it got -----------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {n for n, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: x for name, x in state.items() if name in trained}
        checkpoint["progress"] = {
            "episodes": self.episodes,
            "tokens": self.tokens,
            "beta": self.beta,
            "shaping": self.shaping.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {n for n, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}
        missing = trained - set(checkpoint["state_dict"])
        if missing:
            raise TrainingError(
                f"the checkpoint lacks trained weights: {', '.join(sorted(missing))}"
            )
        progress = checkpoint["progress"]
        self.episodes, self.tokens = progress["episodes"], progress["tokens"]
        self.beta = progress["beta"]
        self.shaping.load(progress["shaping"])
