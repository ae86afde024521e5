"""A language model that answers: loaded from a folder or the hub, with its own tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datamodules.limits import fit_limits
from datamodules.records import DataError, Prompt
from datamodules.sources.source import Split
from harness.checks.plain_pass import check_model
from harness.checks.samplers import candidates, choose, why_not
from harness.checks.selfcheck import BFLOAT16_TOLERANCE, FLOAT32_TOLERANCE
from harness.pipeline.pipeline import Pipeline
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.loading import (
    check_attention,
    check_causal_lm,
    fetch_config,
    load_causal_lm,
)
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.usable import positions, require_positions
from lightning_modules.options.paths import model_folder
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.micro_batches import MicroBatches


class Player:
    """A policy that answers prompts: a folder (of a model or of a run) or a hub id. Within `tokens`
    of a prompt and of a response or, without, within the limits of the data.

    Its collector has no reward: whoever scores what it says gives it one.
    """

    def __init__(
        self,
        path: str | Path,
        revision: str | None,
        pipeline: Pipeline,
        temperature: float,
        sequences: int | None = None,
        tokens: tuple[int, int] | None = None,
    ):
        path = model_folder(path)
        self.device = pipeline.device
        self.lm = frozen(load_causal_lm(path, revision=revision, how=pipeline.frozen))
        self.lm.to(self.device)
        encoder = pipeline.load_unlimited(path, revision, player=True)
        self.encoder = encoder.within(*(tokens or pipeline.limits.tokens))
        self.collector = Collector(
            model=ActorCritic(self.lm),
            reference=Reference(self.lm, shares_policy=False),
            reward=Reward(),
            vocabulary=Vocabulary(
                self.encoder.stop_ids,
                self.encoder.pad_id,
                self.encoder.max_response_tokens,
                self.encoder.decode,
            ),
            temperature=temperature,
            micro_batches=MicroBatches(sequences),
        )

    @property
    def tolerance(self) -> float:
        """How far log-probabilities may be apart by rounding."""
        return FLOAT32_TOLERANCE if self.lm.dtype == torch.float32 else BFLOAT16_TOLERANCE

    def check(self, prompts: Sequence[Prompt]) -> None:
        """CheckError if what is sampled after `prompts` is not what the model says."""
        coarse = self.lm.dtype != torch.float32
        check_model(self.lm, self.encoder, prompts, self.tolerance, coarse)

    def choose_sampler(self, option: str, prompts: list[Prompt]) -> list[str]:
        """Let responses to `prompts` be sampled as hardware.sampler says; a line to say if not."""
        ways = candidates(option, self.device)
        longest = max(map(len, self.encoder.prompts(prompts)))
        given = (self.batch(prompts[:2]), longest, self.tolerance)
        return choose(
            self.collector, ways, [why_not(self.lm, self.collector, way, *given) for way in ways]
        )

    def batch(self, prompts: list[Any]) -> dict[str, Any]:
        """Prompts as this model reads them."""
        ids, mask = self.encoder.pad(self.encoder.prompts(prompts), "left")
        return {
            "prompt_ids": ids.to(self.device),
            "prompt_mask": mask.to(self.device),
            "prompts": prompts,
        }


def check_players(
    pipeline: Pipeline, players: Sequence[tuple[str, str | None]], splits: Sequence[Split]
) -> None:
    """ModelError, OptionError or DataError unless all can be loaded, have a tokenizer and a chat
    template to use, and read what the data of `splits` may give them. `players` are options with
    what each names; None is the reference of the configuration.

    Nothing is trained, and no weight read.
    """
    tokens, encoders = pipeline.source.least_tokens, []
    named = [(option, path) for option, path in players if path is not None]
    for option, path in named:
        config = check_causal_lm(path)
        require_positions(config, tokens, f"{option}={path}")
        check_attention(config, pipeline.frozen.attention, path)
        encoders.append(pipeline.load_unlimited(model_folder(path), None, player=True))
    for encoder in encoders:
        pipeline.try_template(encoder.format.template, splits)
    if len(named) < len(players):
        pipeline.check_language_model()
        pipeline.check_conversations()
        return
    used = {name for encoder in encoders for name in encoder.format.template.options.arguments}
    for name in pipeline.chat.arguments.keys() - used:
        raise DataError(
            f"model.template_arguments.{name}: the chat template of neither"
            f" {' nor '.join(f'{option}={path}' for option, path in named)} has such an argument"
        )


def fit_to_players(pipeline: Pipeline, paths: Sequence[str | None]) -> None:
    """Let the limits of tokens be those that fit the first one's tokenizer, and the positions of
    all; None is the reference of the configuration.
    """
    first = next((path for path in paths if path is not None), None)
    if first is None:  # whose own limits they are
        return
    encoder = pipeline.load_unlimited(model_folder(first), None, player=True)
    known = [
        pipeline.language_model.positions()
        if path is None
        else positions(fetch_config(model_folder(path)))
        for path in paths
    ]
    room = min((n for n in known if n is not None), default=None)
    pipeline.limits = fit_limits(pipeline.source, encoder, room)
