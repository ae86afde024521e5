"""The plan of a run: which parts it has, which of them are in the cache, and what each costs."""

from collections import Counter
from collections.abc import Callable
from copy import copy
from math import ceil

from datamodules.prompts import spread
from harness.parts.parts import Parts
from harness.pipeline.pipeline import Pipeline
from harness.progress.costs import Cost, Lengths, Models, iteration, policy, supervised
from harness.progress.plan import Part, Plan, title_of
from lightning_modules.options.policies import A2COptions, PolicyOptions
from lightning_modules.options.supervised import RewardModelOptions, SupervisedOptions
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import LearnedReward, ModelReward
from lightning_modules.rewards.reward import Reward
from lightning_modules.sft import SFT

# Comparisons whose lengths stand for all.
SAMPLE = 200
# Held-out demonstrations that an exported reward model is put to scale with, at most.
DEMONSTRATIONS = 1000


def plan_of(pipeline: Pipeline) -> Plan:
    """The stages that the run needs, then its own training."""
    algorithm, costs = pipeline.algorithm, Costs(pipeline)
    if isinstance(algorithm, PolicyModule):
        own = costs.policy(algorithm.options, pipeline.reward)
    elif isinstance(algorithm, RewardModel):
        own = costs.reward_model(algorithm.options)
    else:
        own = costs.sft(algorithm.options)
    parts = []
    if pipeline.language_model.embedded and not isinstance(algorithm, SFT):
        parts.append(_stage(pipeline, "sft", costs.sft))
    if isinstance(algorithm, PolicyModule) and learns(pipeline.reward):
        parts.append(_stage(pipeline, "reward_model", costs.reward_model))
    parts.append(Part(algorithm.name, title_of(algorithm.name, is_stage=bool(parts)), own))
    return Plan(pipeline.console, parts, started=pipeline.started)


def _stage(pipeline: Pipeline, name: str, cost: Callable[..., Cost]) -> Part:
    options = pipeline.stage_modules[name].options
    return Part(name, title_of(name), None if pipeline.is_made(name) else cost(options))


class Costs:
    """What each part of a run costs, by the lengths of its data."""

    def __init__(self, parts: Parts):
        self.parts = parts
        self.source = parts.source
        self.lora = parts.lora is not None
        self.lengths = lengths(parts)

    def sft(self, options: SupervisedOptions) -> Cost:
        rows, held_out = (len(self.source.demonstrations(split)) for split in ("train", "val"))
        lora = self.lora and not self.parts.language_model.embedded
        return supervised(rows, held_out, self.lengths.sequence, options.epochs, lora=lora)

    def reward_model(self, options: RewardModelOptions) -> Cost:
        rows, held_out = (self.source.taught(split) for split in ("train", "val"))
        shown = min(DEMONSTRATIONS, len(self.source.demonstrations("val")))
        judged = 2 * len(self.source.preferences("val")) + len(self.source.thumbs("val"))
        return supervised(
            len(rows),
            len(held_out),
            self.lengths.comparison,
            options.epochs,
            lora=self.lora,
            after=(shown + judged) * self.lengths.sequence,
        )

    def policy(self, options: PolicyOptions, reward: Reward) -> Cost:
        models = Models(
            reference=options.beta > 0,
            critic=options.critic == "copy",
            rewards=count_models(reward),
            lora=self.lora,
        )
        held_out = min(options.val_prompts, len(self.source.prompts("val")))
        return policy(
            iteration(
                options.sequences_per_iteration,
                options.epochs,
                value_updates(options),
                self.lengths,
                models,
            ),
            options.iterations,
            options.critic_warmup,
            options.evaluations(options.all_iterations),
            held_out,
            self.lengths,
            models,
        )


def lengths(parts: Parts) -> Lengths:
    """Of the training data, by a sample of it. Nothing is counted as encoded."""
    encoder = copy(parts.encoder)
    encoder.counts, encoder.cut_prompts = Counter(), {}
    rows = spread(parts.source.feedback("train"), SAMPLE)
    asked = [row.prompt for row in rows] or spread(parts.source.prompts("train"), SAMPLE)
    prompts = [len(ids) for ids in encoder.prompts(asked)]
    answers = [[len(ids) for ids in encoder.responses(row.responses)] for row in rows]
    # Of prompts alone nobody knows how long the answers will be.
    answers = answers or [[encoder.max_response_tokens]] * len(prompts)
    responses = [length for of_row in answers for length in of_row]
    compared = [p + len(a) * max(a) for p, a in zip(prompts, answers, strict=True)]
    return Lengths(
        prompt=sum(prompts) / len(prompts),
        response=sum(responses) / len(responses),
        comparison=sum(compared) / len(compared),
        longest_prompt=max(prompts),
        longest_response=max(responses),
    )


def count_models(reward: Reward) -> int:
    """How many reward models read a response."""
    if isinstance(reward, CombinedReward):
        return sum(map(count_models, reward.rewards.values()))
    return int(isinstance(reward, ModelReward))


def learns(reward: Reward) -> bool:
    """Whether a reward needs the run's own reward model."""
    if isinstance(reward, CombinedReward):
        return any(map(learns, reward.rewards.values()))
    return isinstance(reward, LearnedReward)


def value_updates(options: PolicyOptions) -> int:
    """Steps of the value function alone after each update."""
    return options.value_updates - 1 if isinstance(options, A2COptions) else 0


def backward_passes(algorithm: PolicyModule, longest: int) -> int:
    """Of an iteration on each device: at most so many, if no sequence is above `longest` tokens."""
    options = algorithm.options
    share = options.sequences_per_iteration // algorithm.trainer.world_size
    at_a_time = algorithm.micro_batches.sequences_of(longest) or share
    of_minibatch = ceil(share // options.minibatches / at_a_time)
    of_values = value_updates(options) * ceil(share / at_a_time)
    return options.updates * of_minibatch + of_values
