"""What every policy-gradient algorithm shares: collect a rollout, then update on it.

An algorithm adds two methods: `weigh` says by what each token's log-probability is weighted, and
`token_loss` is its loss. REINFORCE and A2C are the case epochs = minibatches = 1 of the same loop.

One training_step is one iteration of the lecture's box, and one Lightning epoch of one batch: an
epoch's end is the only place where Lightning's loops, validation, loggers and checkpoints agree
about what has been done, which resuming needs.
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor

from lightning_modules.actor_critic import ActorCritic, Reference, TokenOutputs
from lightning_modules.averages import Averages
from lightning_modules.collection import Collector, Vocabulary
from lightning_modules.evaluation import Evaluation
from lightning_modules.objectives.divergences import k3
from lightning_modules.objectives.masked import aggregate, masked
from lightning_modules.options import require, require_at_least
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollout import Rollout, explained_variance, finish_statistics
from lightning_modules.seeding import Stream, generator

CRITICS = (None, "head", "copy")
NORMALISERS = ("sequences", "tokens")
LR_DECAYS = ("linear", "none")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which iteration, and why."""


class PolicyModule(pl.LightningModule):
    """Options come first and are checked at once; `bind` hands over the models when they exist."""

    automatic_optimization = False
    strict_loading = False  # frozen weights are not in checkpoints, see on_save_checkpoint

    def __init__(
        self,
        *,
        name: str,
        iterations: int,
        prompts_per_iteration: int,
        samples_per_prompt: int,
        epochs: int,
        minibatches: int,
        micro_batch_size: int,
        temperature: float,
        beta: float,
        gamma: float,
        lam: float,
        missing_eos_penalty: float,
        critic: str | None,
        normalise: str,
        max_grad_norm: float | None,
        optimizer: Callable[..., torch.optim.Optimizer],
        value_lr: float | None,
        lr_decay: str,
        evaluate_every: int,
        val_prompts: int,
        seed: int,
    ):
        super().__init__()
        require_at_least(
            1,
            "algo",
            iterations=iterations,
            prompts_per_iteration=prompts_per_iteration,
            samples_per_prompt=samples_per_prompt,
            epochs=epochs,
            minibatches=minibatches,
            micro_batch_size=micro_batch_size,
            evaluate_every=evaluate_every,
            val_prompts=val_prompts,
        )
        require_at_least(0, "algo", beta=beta, missing_eos_penalty=missing_eos_penalty)
        require(temperature > 0, "algo.temperature", temperature, "must be greater than 0")
        require(0 <= gamma <= 1, "algo.gamma", gamma, "must lie in [0, 1]")
        require(0 <= lam <= 1, "algo.lam", lam, "must lie in [0, 1]")
        require(critic in CRITICS, "algo.critic", critic, f"must be one of {CRITICS}")
        require(
            normalise in NORMALISERS, "algo.normalise", normalise, f"must be one of {NORMALISERS}"
        )
        require(lr_decay in LR_DECAYS, "algo.lr_decay", lr_decay, f"must be one of {LR_DECAYS}")
        require(
            max_grad_norm is None or max_grad_norm > 0,
            "algo.max_grad_norm",
            max_grad_norm,
            "must be greater than 0, or null for no clipping",
        )
        sequences = prompts_per_iteration * samples_per_prompt
        require(
            sequences % minibatches == 0,
            "algo.minibatches",
            minibatches,
            f"must divide the {sequences} sequences of an iteration"
            f" ({prompts_per_iteration} prompts x {samples_per_prompt} samples)",
        )
        self.name = name
        self.iterations = iterations
        self.prompts_per_iteration = prompts_per_iteration
        self.samples_per_prompt = samples_per_prompt
        self.epochs = epochs
        self.minibatches = minibatches
        self.micro_batch_size = micro_batch_size
        self.temperature = temperature
        self.beta = beta
        self.gamma = gamma
        self.lam = lam
        self.missing_eos_penalty = missing_eos_penalty
        self.critic = critic
        self.normalise = normalise
        self.max_grad_norm = max_grad_norm
        self.optimizer = optimizer
        self.value_lr = value_lr
        self.lr_decay = lr_decay
        self.evaluate_every = evaluate_every
        self.val_prompts = val_prompts
        self.seed = seed
        self.episodes = 0
        self.tokens = 0

    @property
    def sequences_per_iteration(self) -> int:
        """B, over all ranks."""
        return self.prompts_per_iteration * self.samples_per_prompt

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
            temperature=self.temperature,
            beta=self.beta,
            missing_eos_penalty=self.missing_eos_penalty,
            micro_batch_size=self.micro_batch_size,
        )
        self.evaluation = Evaluation(self.collector, gold, self.seed)
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
        noise = generator(self.seed, Stream.SAMPLING, self.current_epoch, self.global_rank)
        rollout, _, seconds = self.collector.collect(
            batch, noise, self.samples_per_prompt, with_reference=self.beta > 0
        )
        return self.weigh(rollout), seconds

    def update(self, rollout: Rollout) -> dict[str, float]:
        """K epochs of M optimiser steps on one rollout; returns the train/* metrics."""
        optimizer = self.optimizers()
        self._set_learning_rates(optimizer)
        order = generator(self.seed, Stream.MINIBATCHES, self.current_epoch, self.global_rank)
        averages = Averages()
        ratio_max = torch.zeros(())
        for _ in range(self.epochs):
            for minibatch in rollout.minibatches(self.minibatches, order):
                ratio = self._accumulate(minibatch, averages)
                ratio_max = torch.maximum(ratio_max, ratio)
                averages.add("train/grad_norm", self._step(optimizer))
        metrics = averages.means(self.sum_over_ranks)
        metrics["train/ratio_max"] = float(self.trainer.strategy.reduce(ratio_max, reduce_op="max"))
        metrics["train/lr"] = optimizer.param_groups[0]["lr"]
        if rollout.values is not None:
            metrics["train/explained_variance"] = explained_variance(rollout, self.sum_over_ranks)
        return metrics

    def _accumulate(self, minibatch: Rollout, averages: Averages) -> Tensor:
        """The gradient of one optimiser step, in micro-batches; returns the largest ratio."""
        divisor = self.sum_over_ranks(self._count(minibatch))
        parts = list(minibatch.micro_batches(self.micro_batch_size))
        ratios = []
        for part in parts:
            new = self.model(part.sequences, part.prompt_mask, part.response_mask, self.temperature)
            token_losses, stats = self.token_loss(part, new)
            loss = aggregate(token_losses, part.response_mask, divisor)
            with nullcontext() if part is parts[-1] else self._without_sync():
                # DDP averages gradients over ranks, where the divisor counts those of all ranks.
                self.manual_backward(loss * self.trainer.world_size)
            stats = {name: x.detach() for name, x in stats.items()}
            self._add_statistics(averages, part, new, stats | {"loss": token_losses.detach()})
            ratios.append((new.logprobs.detach() - part.old_logprobs).exp().max())
        return torch.stack(ratios).max()

    def _count(self, batch: Rollout) -> Tensor:
        """What losses are divided by: the number of sequences, or of tokens."""
        mask = batch.response_mask
        return (mask.any(-1) if self.normalise == "sequences" else mask).sum().float()

    def _add_statistics(
        self, averages: Averages, part: Rollout, new: TokenOutputs, stats: dict[str, Tensor]
    ) -> None:
        """Losses are averaged as they are minimised, everything else over tokens."""
        mask = part.response_mask
        for name, values in stats.items():
            if name.endswith("loss"):
                averages.add(f"train/{name}", masked(values, mask).sum(), self._count(part))
            else:
                averages.add_tokens(f"train/{name}", values, mask)
        approx_kl = k3(part.old_logprobs, new.logprobs.detach())
        averages.add_tokens("train/approx_kl", approx_kl, mask)

    def _step(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Clip, step, clear; returns the norm of the gradient before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(
            self._trained_parameters(), self.max_grad_norm or float("inf")
        )
        if not norm.isfinite():
            raise TrainingError(
                f"iteration {self.current_epoch + 1}: the gradient is not finite. The run's"
                " checkpoints hold the state before. A lower algo.optimizer.lr, a higher algo.beta"
                " or a smaller algo.max_grad_norm may help"
            )
        optimizer.step()
        optimizer.zero_grad()
        return norm

    # -- Lightning ------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser with two groups of parameters: of the policy, of the value function."""
        lr = self.optimizer.keywords["lr"] * self.lr_multiplier
        value = self.model.value_parameters()
        own = {id(p) for p in value}
        policy = [p for p in self._trained_parameters() if id(p) not in own]
        groups = [{"params": policy, "lr": lr, "initial_lr": lr}]
        if value:
            value_lr = self.value_lr or lr
            groups.append({"params": value, "lr": value_lr, "initial_lr": value_lr})
        return self.optimizer(groups)

    def _set_learning_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """A function of the iteration alone, so there is no schedule to resume."""
        left = 1 - self.current_epoch / self.iterations if self.lr_decay == "linear" else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * left

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for: dropout would make ratios differ from 1
        at the first step, and log-probabilities differ from those of the sampler.
        """
        return super().train(False)

    def on_fit_start(self) -> None:
        share = self.sequences_per_iteration // self.trainer.world_size
        require(
            share % self.minibatches == 0,
            "algo.minibatches",
            self.minibatches,
            f"must divide the {share} sequences that each device has",
        )
        self.train()
        self.collector.to(self.device)

    def on_train_epoch_start(self) -> None:
        # The last iteration is always evaluated.
        last = self.current_epoch + 1 == self.iterations
        self.trainer.check_val_every_n_epoch = 1 if last else self.evaluate_every

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Tensors move; the prompts' records stay as they are."""
        return {k: x.to(device) if isinstance(x, Tensor) else x for k, x in batch.items()}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        started = time.perf_counter()
        rollout, seconds = self.collect(batch)
        collected = time.perf_counter()
        metrics = self.update(rollout)
        ended = time.perf_counter()
        seconds |= {"time/update": ended - collected, "time/iteration": ended - started}
        metrics |= self._rollout_metrics(rollout, seconds["time/iteration"])
        self.log_dict(metrics | seconds)

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
            "throughput/episodes_per_s": episodes / seconds,
            "throughput/tokens_per_s": tokens / seconds,
        }

    def on_validation_epoch_start(self) -> None:
        self.collector.to(self.device)
        self.evaluation.reset()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.evaluation.step(batch, batch_idx, self.global_rank)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.evaluation.metrics(self.sum_over_ranks))

    # -- checkpoints: what is trained, and how far it got -----------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {n for n, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: x for name, x in state.items() if name in trained}
        checkpoint["progress"] = {"episodes": self.episodes, "tokens": self.tokens}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {n for n, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}
        missing = trained - set(checkpoint["state_dict"])
        if missing:
            raise TrainingError(
                f"the checkpoint lacks trained weights: {', '.join(sorted(missing))}"
            )
        self.episodes = checkpoint["progress"]["episodes"]
        self.tokens = checkpoint["progress"]["tokens"]

    # -- ranks ----------------------------------------------------------------------------------

    def sum_over_ranks(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all ranks; every rank must call this equally often."""
        if self.trainer.world_size == 1:
            return x
        return self.trainer.strategy.reduce(x.to(self.device), reduce_op="sum").to(x.device)

    def _without_sync(self):
        """Leave the reduction of gradients over ranks to the step's last micro-batch."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy):
            return strategy.block_backward_sync()
        return nullcontext()

    def _trained_parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]
