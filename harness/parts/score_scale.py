"""How a reward model is used for scoring: its tokenizer, and what it says of its own scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from datamodules.prompts import spread
from datamodules.records import DataError
from datamodules.sources.source import Source
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import generation_stops, load_tokenizer
from datamodules.tokenization.templates import PLAIN_TEMPLATE, ChatOptions, midnight
from harness.reports.chat_notes import date_notes
from lightning_modules.models.loading import fetch_config
from lightning_modules.models.scalar import REWARD_CONFIG
from lightning_modules.models.usable import embedding_rows, positions
from lightning_modules.options.paths import model_folder
from lightning_modules.options.remote_code import trusts
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import CheckpointReward, Scorer
from lightning_modules.rewards.reward import Reward

DEMONSTRATIONS = 1000
# For a reward model whose config does not say how much it can read.
UNKNOWN_POSITIONS = 4096


class ScoringEncoder(Encoder):
    """A reward model's: what it refuses is said of that model, at `path`."""

    def __init__(self, path: str, *args: Any, **options: Any):
        self.path = path
        with self._named():
            super().__init__(*args, **options)

    def conversations(self, *args: Any) -> list[list[int]]:
        with self._named():
            return super().conversations(*args)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise type(error)(f"reward model {self.path}: {error}") from error


def scoring_encoder(path: str | Path, date: datetime | None = None) -> Encoder:
    """The tokenizer of a reward model, used as it was when that was trained; `date` is what its
    chat template is told when it asks.

    One of ours says within which limits. Of another, the chat template (if it has one) writes the
    whole conversation, and as much of its end is read as the model has positions.
    """
    path = model_folder(path)
    tokenizer = load_tokenizer(path, has_option=False, trust_remote_code=trusts(path))
    config = fetch_config(path)
    about = getattr(config, REWARD_CONFIG, None)
    chat = {
        "chat": ChatOptions(date=date or midnight()),
        "stops": generation_stops(path, trust_remote_code=trusts(path)),
        "rows": embedding_rows(config),
    }
    if about:
        limits = (about["max_prompt_tokens"], about["max_response_tokens"])
        return ScoringEncoder(path, tokenizer, *limits, **chat)
    limit = positions(config) or UNKNOWN_POSITIONS
    renders = tokenizer.chat_template != PLAIN_TEMPLATE
    limits = (limit // 2, limit - limit // 2)
    return ScoringEncoder(
        path, tokenizer, *limits, renders_responses=renders, needs_stop=False, **chat
    )


def reward_notes(reward: Reward) -> list[str]:
    """What a user should know of the reward models from elsewhere that a reward consists of, once
    they are loaded.
    """
    if isinstance(reward, CombinedReward):
        return [line for part in reward.rewards.values() for line in reward_notes(part)]
    if not isinstance(reward, CheckpointReward):
        return []
    encoder = reward.scorer.encoder
    return [f"reward model {encoder.path}: {line}" for line in date_notes(encoder.format)]


def describe_scores(scorer: Scorer, source: Source) -> dict[str, Any]:
    """What an exported reward model says of itself in its config: how many heads it has, within
    which limits of tokens it was trained, and the mean and standard deviation of each head's scores
    over held-out demonstrations, the kind of response that the policy is taught to imitate (over
    all held-out responses where none is one).
    """
    rows = [(d.prompt, d.response) for d in source.demonstrations("val")]
    rows = rows or [
        (told.prompt, text) for told in source.feedback("val") for text in told.responses
    ]
    prompts, texts = zip(*spread(rows, DEMONSTRATIONS), strict=True)
    scores = scorer.raw_heads(prompts, texts).double()
    std = scores.std(0, correction=0)
    return {
        "ensemble": scores.shape[1],
        "max_prompt_tokens": scorer.encoder.max_prompt_tokens,
        "max_response_tokens": scorer.encoder.max_response_tokens,
        "score_mean": scores.mean(0).tolist(),
        "score_std": [x or 1.0 for x in std.tolist()],
    }
