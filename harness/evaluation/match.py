"""A policy against another one, on held-out prompts of any source, by any reward."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.prompts import spread
from datamodules.records import Prompt
from datamodules.tokenization.encoder import Encoder
from harness.generation.player import Player
from harness.pipeline.pipeline import Pipeline
from harness.reports.console import say
from lightning_modules.metrics.evaluation import Evaluation
from lightning_modules.models.reference import Reference
from lightning_modules.options.paths import model_folder
from lightning_modules.rewards.learned import LearnedReward
from lightning_modules.rewards.programmed import NoReward
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.collection import Collector
from lightning_modules.rollouts.reference_responses import ReferenceResponses
from lightning_modules.rollouts.seeding import Noise

# Metrics that there are not without scores.
OF_SCORES = re.compile(r"/(score|win_rate|unscored)")


class TextReward(Reward):
    """A reward that gets text, whatever tokenizer a response was made with."""

    def __init__(self, reward: Reward):
        self.reward = reward
        self.name = reward.name

    def score_texts(self, prompts: Any, texts: Any, stopped: Any = None) -> Tensor:
        return self.reward.score_texts(prompts, texts, stopped)

    def watch(self, responses: Responses) -> Tensor | None:
        return self.reward.watch(responses)


def reward_for(reward: Reward, encoder: Encoder) -> Reward:
    """The reward as a training would ask it: by the very ids that were sampled where its model has
    the same tokenizer and chat template, else by text.
    """
    if isinstance(reward, LearnedReward):
        own = reward.scorer.encoder
        same = own.tokenizer.get_vocab() == encoder.tokenizer.get_vocab()
        if same and own.format.identity() == encoder.format.identity():
            return reward
    return TextReward(reward)


class Match(Evaluation):
    """An evaluation whose opponent has a tokenizer of its own."""

    def __init__(self, collector: Collector, gold: Any, seed: int, against: Player):
        super().__init__(collector, gold, seed)
        self.against = against

    def opponent(self, batch: dict[str, Any], noise: Noise) -> Responses:
        own = self.against.batch(batch["prompts"])
        return self.against.collector.respond(self.against.lm, own, noise, 1)


def template_notes(pipeline: Pipeline, *players: str | None) -> list[str]:
    """For which players `model.chat_template`, if it is given, is not meant."""
    if pipeline.chat.template is None:
        return []
    return [
        f"{path} has its own chat template; model.chat_template is that of model.pretrained"
        for path in players
        if path and not pipeline.has_the_options(path)
    ]


def held_out(pipeline: Pipeline) -> list[Prompt]:
    """The prompts that an evaluation is on."""
    return spread(pipeline.source.prompts("val"), pipeline.cfg.evaluation.prompts)


def check_sampling(pipeline: Pipeline, policy: str, against: str | None) -> None:
    """CheckError if what one of both is sampled from is not what it says.

    Each is loaded for it and let go, so that there is room to train a reward model. Of an embedded
    model the reference is trained here.
    """

    def check(path: str | Path, revision: str | None) -> None:
        path = model_folder(path)
        encoder = pipeline.load_encoder(path, revision, player=True)
        pipeline.check_sampling(path, revision, encoder, held_out(pipeline), pipeline.frozen)

    check(policy, None)
    opponent = (against, None) if against else pipeline.reference()
    if opponent != (policy, None):
        check(*opponent)


def evaluate_policy(
    pipeline: Pipeline, policy: str, against: str | None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """val/* and reference/* (the opponent's), and the responses, side by side.

    `against` None is the reference that this configuration's policies start from. Where the two
    have the same vocabulary, val/kl is that of the policy to the opponent; else it is not defined.
    """
    if pipeline.cfg.selfcheck:
        check_sampling(pipeline, policy, against)
    pipeline.reward.bind(pipeline.reward_context())
    pipeline.reward.to(pipeline.device)
    options = pipeline.cfg.evaluation
    how = (pipeline, options.temperature, options.batch_size)
    player = Player(policy, None, *how)
    player.collector.reward = reward_for(pipeline.reward, player.encoder)
    opponent = Player(*((against, None) if against else pipeline.reference()), *how)
    pipeline.reference_responses = ReferenceResponses(
        opponent.collector, opponent.batch, pipeline.cfg.seed, pipeline.run.folder
    )
    comparable = player.encoder.tokenizer.get_vocab() == opponent.encoder.tokenizer.get_vocab()
    if comparable:
        player.collector.reference = Reference(opponent.lm, shares_policy=False)
    match = Match(player.collector, pipeline.source.gold, pipeline.cfg.seed, opponent)
    prompts = held_out(pipeline)
    sampler = pipeline.cfg.hardware.get("sampler", "auto")
    for each in (player, opponent):
        say(pipeline.console, each.choose_sampler(sampler, prompts))
    for i, start in enumerate(range(0, len(prompts), options.batch_size)):
        part = prompts[start : start + options.batch_size]
        places = list(range(start, start + len(part)))
        match.step(player.batch(part) | {"places": places}, i, beta=0.0)
    metrics = match.metrics(torch.clone)
    metrics.pop("val/reward")  # of no beta
    if isinstance(pipeline.reward, NoReward):
        metrics = {name: value for name, value in metrics.items() if not OF_SCORES.search(name)}
        match.rows = [{**row, "score": None, "reference_score": None} for row in match.rows]
    if not comparable:
        for name in ("val/kl", "val/kl_k3"):
            metrics.pop(name)
    return metrics, match.rows
