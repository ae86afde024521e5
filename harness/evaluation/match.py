"""A policy against another one, on held-out prompts of any source, by any reward."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.prompts import spread
from datamodules.tokenization.encoder import Encoder
from harness.pipeline.pipeline import Pipeline
from lightning_modules.metrics.evaluation import Evaluation
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.loading import check_causal_lm, load_causal_lm
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.usable import require_positions
from lightning_modules.options.paths import model_folder
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.seeding import Noise


class TextReward(Reward):
    """A reward that gets text, whatever tokenizer a response was made with."""

    def __init__(self, reward: Reward):
        self.reward = reward
        self.name = reward.name

    def score_texts(self, prompts: Any, texts: Any, stopped: Any = None) -> Tensor:
        return self.reward.score_texts(prompts, texts, stopped)

    def watch(self, responses: Responses) -> Tensor | None:
        return self.reward.watch(responses)


class Match(Evaluation):
    """An evaluation whose opponent has a tokenizer of its own."""

    def __init__(self, collector: Collector, gold: Any, seed: int, against: "Player"):
        super().__init__(collector, gold, seed)
        self.against = against

    def opponent(self, batch: dict[str, Any], noise: Noise) -> Responses:
        own = self.against.batch(batch["prompts"])
        return self.against.collector.respond(self.against.lm, own, noise, 1)


class Player:
    """A language model that responds: a folder (of a model or of a run) or a hub id."""

    def __init__(self, path: str | Path, revision: str | None, pipeline: Pipeline):
        path = model_folder(path)
        self.device = pipeline.device
        self.lm = frozen(load_causal_lm(path, revision=revision, dtype=pipeline.dtype))
        self.lm.to(self.device)
        self.encoder: Encoder = pipeline.load_encoder(path, revision)
        options = pipeline.cfg.evaluation
        self.collector = Collector(
            model=ActorCritic(self.lm),
            reference=Reference(self.lm, shares_policy=False),
            reward=TextReward(pipeline.reward),
            vocabulary=Vocabulary(
                self.encoder.stop_ids,
                self.encoder.pad_id,
                self.encoder.max_response_tokens,
                self.encoder.decode,
            ),
            temperature=options.temperature,
            micro_batch_size=options.batch_size,
        )

    def batch(self, prompts: list[Any]) -> dict[str, Any]:
        """Prompts as this model reads them."""
        ids, mask = self.encoder.pad(self.encoder.prompts(prompts), "left")
        return {
            "prompt_ids": ids.to(self.device),
            "prompt_mask": mask.to(self.device),
            "prompts": prompts,
        }


def check_players(pipeline: Pipeline, policy: str, against: str | None) -> None:
    """ModelError or OptionError unless both can be loaded and read what the data may give them.

    Nothing is trained, and no weight read.
    """
    tokens = pipeline.source.max_prompt_tokens + pipeline.source.max_response_tokens
    for option, path in (("policy", policy), ("against", against)):
        if path is not None:
            require_positions(check_causal_lm(path), tokens, f"{option}={path}")
    if against is None:
        pipeline.check_language_model()


def evaluate_policy(
    pipeline: Pipeline, policy: str, against: str | None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """val/* and reference/* (the opponent's), and the responses, side by side.

    `against` None is the reference that this configuration's policies start from. Where the two
    have the same vocabulary, val/kl is that of the policy to the opponent; else it is not defined.
    """
    pipeline.reward.bind(pipeline.reward_context())
    pipeline.reward.to(pipeline.device)
    player = Player(policy, None, pipeline)
    opponent = Player(*((against, None) if against else pipeline.reference()), pipeline)
    comparable = player.encoder.tokenizer.get_vocab() == opponent.encoder.tokenizer.get_vocab()
    if comparable:
        player.collector.reference = Reference(opponent.lm, shares_policy=False)
    options = pipeline.cfg.evaluation
    match = Match(player.collector, pipeline.source.gold, pipeline.cfg.seed, opponent)
    prompts = spread(pipeline.source.prompts("val"), options.prompts)
    for i, start in enumerate(range(0, len(prompts), options.batch_size)):
        part = prompts[start : start + options.batch_size]
        places = list(range(start, start + len(part)))
        match.step(player.batch(part) | {"places": places}, i, beta=0.0)
    metrics = match.metrics(torch.clone)
    metrics.pop("val/reward")  # of no beta
    if not comparable:
        for name in ("val/kl", "val/kl_k3"):
            metrics.pop(name)
    return metrics, match.rows
