"""What every policy-gradient algorithm shares: collect a rollout, then update on it.

An algorithm adds two methods: `weigh` says by what each token's log-probability is weighted, and
`token_loss` is its loss. REINFORCE and A2C are, by default, the case epochs = minibatches = 1 of
the same loop.

One training_step is one iteration of the lecture's box (docs/lecture.md), and one Lightning epoch
of one batch: an epoch's end is the only place where Lightning's loops, validation, loggers and
checkpoints agree about what has been done, which resuming needs.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from lightning_modules.errors import TrainingError
from lightning_modules.metrics.evaluation import Evaluation
from lightning_modules.metrics.rollout_statistics import rollout_metrics, sampler_gap
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.objectives.advantages import penalised_rewards
from lightning_modules.objectives.divergences import adapted_beta
from lightning_modules.options.policies import AUTO, PolicyOptions
from lightning_modules.options.require import require
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.shaping import ScoreShaping
from lightning_modules.rollouts.collection import Collector, Vocabulary, clock
from lightning_modules.rollouts.micro_batches import MicroBatches
from lightning_modules.rollouts.rollout import Rollout
from lightning_modules.rollouts.seeding import Stream, generator
from lightning_modules.trained_weights import TrainedWeightsOnly
from lightning_modules.updates import UpdatingModule


class PolicyModule(TrainedWeightsOnly, UpdatingModule):
    """Options come first and are checked at once; `bind` hands over the models when they exist."""

    options_class = PolicyOptions

    def __init__(self, **options: Any):
        super().__init__()
        self.options = self.options_class(**options)
        self.name = self.options.name
        self.beta = self.options.beta
        self.shaping = ScoreShaping(
            normalise=self.options.normalise_scores,
            clip=self.options.score_clip,
            missing_eos_penalty=self.options.missing_eos_penalty,
        )
        self.micro_batches = MicroBatches(
            self.options.micro_batch_size, self.options.micro_batch_tokens
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
    ) -> Self:
        """Hand over the models. The frozen ones do not become children of this module."""
        self.model = model
        self.collector = Collector(
            model=model,
            reference=reference,
            reward=reward,
            vocabulary=vocabulary,
            temperature=self.options.temperature,
            micro_batches=self.micro_batches,
        )
        self.evaluation = Evaluation(self.collector, gold, self.options.seed)
        return self

    @abstractmethod
    def weigh(self, rollout: Rollout) -> Rollout:
        """The rollout with `advantages` and, where there is a critic, `returns`: once a rollout."""

    def collect(self, batch: dict[str, Any]) -> tuple[Rollout, dict[str, float]]:
        """This iteration's rollout, weighed, and the seconds that its parts took."""
        noise = generator(self.options.seed, Stream.SAMPLING, self.current_epoch, self.global_rank)
        rollout, _, seconds = self.collector.collect(
            batch,
            noise,
            self.options.samples_per_prompt,
            with_reference=self.beta > 0,
            first_step=self._order() if self._begins_early() else None,
        )
        if self.sum_over_ranks(rollout.scored.sum().float()) == 0:
            raise TrainingError(
                f"iteration {self.current_epoch + 1}: the reward could score none of the responses"
            )
        # The KL penalty at every token, the (shaped) score at the last one.
        rewards = penalised_rewards(
            self.shaping(rollout.scores, rollout.stopped, self.sum_over_ranks),
            rollout.old_logprobs,
            rollout.ref_logprobs,
            rollout.response_mask,
            self.beta,
        )
        return self.weigh(replace(rollout, rewards=rewards)), seconds

    def _begins_early(self) -> bool:
        """Whether the pass that gives old log-probabilities may be that of the first step."""
        one_rank = self.trainer.world_size == 1  # DDP has a forward pass of its own
        return self.options.minibatches == 1 and one_rank and not self.warming_up

    # -- Lightning ------------------------------------------------------------------------------

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
        # As the start table of the first rank says.
        self.micro_batches.tokens = self.trainer.strategy.broadcast(self.micro_batches.tokens)
        if self.options.samples_per_prompt > 1:
            self.collector.share_prompts()

    def on_train_start(self) -> None:
        self.on_train_epoch_start()  # a run may go on with the evaluation of an iteration

    def on_train_epoch_start(self) -> None:
        before, after = map(self.options.evaluations, (self.current_epoch, self.current_epoch + 1))
        # What does not divide the number of iterations so far asks for no evaluation.
        self.trainer.check_val_every_n_epoch = 1 if after > before else self.current_epoch + 2

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Tensors move; the prompts' records stay as they are."""
        return {k: x.to(device) if isinstance(x, Tensor) else x for k, x in batch.items()}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        started = clock(self.device)
        rollout, seconds = self.collect(batch)
        collected = clock(self.device)
        self.rollout = rollout  # the latest, for callbacks to look at
        metrics = self.warm_up(rollout) if self.warming_up else self.update(rollout)
        ended = clock(self.device)
        seconds |= {"time/update": ended - collected, "time/iteration": ended - started}
        metrics |= rollout_metrics(rollout, self.beta, self.sum_over_ranks)
        metrics |= self._largest_gap(rollout)
        metrics |= self._reward_counts()
        metrics |= self._count_episodes(rollout, seconds["time/iteration"])
        self.log_dict(metrics | seconds)
        if (adaptive := self.options.adaptive_beta) and not self.warming_up:
            self.beta = adapted_beta(
                self.beta,
                metrics["rollout/kl"],
                adaptive.target,
                self.options.sequences_per_iteration,
                adaptive.horizon,
            )

    def _largest_gap(self, rollout: Rollout) -> dict[str, float]:
        gap = sampler_gap(rollout)
        if gap is None:
            return {}
        largest = self.trainer.strategy.reduce(gap.max(), reduce_op="max")
        return {"rollout/sampler_gap_max": float(largest)}

    def _reward_counts(self) -> dict[str, float]:
        """What the reward tells of its work since the last iteration, over all ranks."""
        counts = self.collector.reward.counts()
        if not counts:
            return {}
        total = self.sum_over_ranks(torch.tensor(list(counts.values()), dtype=torch.float64))
        return dict(zip(counts, total.tolist(), strict=True))

    def _count_episodes(self, rollout: Rollout, seconds: float) -> dict[str, float]:
        sizes = torch.tensor([len(rollout), rollout.response_mask.sum()], dtype=torch.float64)
        episodes, tokens = self.sum_over_ranks(sizes).tolist()
        self.episodes += int(episodes)
        self.tokens += int(tokens)
        return {
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
        self.evaluation.step(batch, batch_idx, self.beta)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.evaluation.metrics(self.sum_over_ranks))

    # -- checkpoints ------------------------------------------------------------------------------

    def progress(self) -> dict[str, Any]:
        return {
            "episodes": self.episodes,
            "tokens": self.tokens,
            "beta": self.beta,
            "shaping": self.shaping.state(),
            "micro_batch_tokens": self.micro_batches.tokens,
            "sampled_at_a_time": self.collector.at_a_time.sequences,
        }

    def go_on_from(self, progress: dict[str, Any]) -> None:
        self.episodes, self.tokens = progress["episodes"], progress["tokens"]
        self.beta = progress["beta"]
        self.shaping.load(progress["shaping"])
        self.collector.at_a_time.sequences = progress.get("sampled_at_a_time")
        if self.options.micro_batch_tokens == AUTO:  # as before, to the bit
            self.micro_batches.tokens = progress.get(
                "micro_batch_tokens", self.micro_batches.tokens
            )
