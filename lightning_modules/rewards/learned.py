"""Scores from reward models: the run's own, or any checkpoint."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from lightning_modules.forward.shared_prompts import can_share_prompts, shared_prompt
from lightning_modules.forward.within_memory import AsManyAsFit
from lightning_modules.models.loading import check_attention
from lightning_modules.models.one_base import reward_on
from lightning_modules.models.parameters import frozen
from lightning_modules.models.scalar import REWARD_CONFIG, ScalarModel, thumbs_bias
from lightning_modules.models.scorers import check_scorer, load_scorer
from lightning_modules.options.rewards import (
    CheckpointRewardOptions,
    LearnedRewardOptions,
    ModelRewardOptions,
)
from lightning_modules.rewards.reward import Responses, Reward, RewardContext

# Tokens of a forward pass without gradients, padding included.
BATCH_TOKENS = 16384
# To see whether prompts can be read: a response after each, and how many at a time.
RESPONSE, CHECKED_AT_ONCE = "Yes.", 512


class Scorer:
    """A reward model and its own tokenizer: text in, a score of each of n heads out.

    `encoder` has `conversations(prompts, texts, stopped)`, ids of prompt and response together, and
    `pad(rows, side)`. `unread`: a score is read at the last token that is not this one. `say`: what
    is told of a device that runs out of memory.
    """

    def __init__(
        self,
        model: ScalarModel,
        encoder: Any,
        unread: int | None = None,
        say: Callable[[str], None] = warnings.warn,
    ):
        self.model = model
        self.encoder = encoder
        self.unread = unread
        self.at_a_time = AsManyAsFit("the reward model takes", tokens=BATCH_TOKENS, say=say)

    @torch.no_grad()
    def heads(
        self, prompts: Sequence[Any], texts: Sequence[str], stopped: Sequence[bool] | None = None
    ) -> Tensor:
        """(B, n); `stopped` is False for responses that did not end by themselves."""
        device = self.model.mean.device
        rows = self.encoder.conversations(prompts, texts, stopped)
        rows = [without_end(ids, self.unread) for ids in rows]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = torch.empty(len(rows), self.model.heads_count)

        def score() -> Tensor:
            for part in _batches(order, rows, self.at_a_time.tokens):
                ids, mask = self.encoder.pad([rows[i] for i in part], "right")
                result[part] = self.model.heads(ids.to(device), mask.to(device)).cpu()
            return result

        return self.at_a_time.within_memory(score, len(rows))

    def raw_heads(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """(B, n) as the heads give them, whose differences are log-odds of preferences."""
        return self.heads(prompts, texts) * self.model.std.cpu() + self.model.mean.cpu()

    @cached_property
    def shares_prompts(self) -> bool:
        """Whether the model can read a prompt once for several responses."""
        with self.model.reading() as model:
            return can_share_prompts(model)

    @torch.no_grad()
    def heads_of_ids(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None = None,
    ) -> Tensor:
        """(B, n) of ids (B, P+T) of this very tokenizer; `prompt_of` (B,) numbers their prompts."""

        def score() -> Tensor:
            size = max(1, self.at_a_time.tokens // sequences.shape[1])
            parts = torch.arange(len(sequences), device=sequences.device).split(size)
            return torch.cat(
                [
                    self._heads_of(rows, sequences, prompt_mask, response_mask, prompt_of)
                    for rows in parts
                ]
            )

        return self.at_a_time.within_memory(score, len(sequences))

    def _heads_of(
        self,
        rows: Tensor,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None,
    ) -> Tensor:
        """Of these rows alone."""
        ids, masks = sequences[rows], (prompt_mask[rows], response_mask[rows])
        shares = prompt_of is not None and self.shares_prompts
        width = prompt_mask.shape[1]
        prompt = shared_prompt(ids[:, :width], masks[0], prompt_of[rows] if shares else None)
        if prompt is None:
            return self.model.heads(ids, torch.cat(masks, dim=1))
        return self.model.heads(ids[:, width:], masks[1], prompt)


def without_end(ids: list[int], unread: int | None) -> list[int]:
    """Ids up to the last one that is not `unread`, or the first one alone if there is no other."""
    end = len(ids)
    while end > 1 and ids[end - 1] == unread:
        end -= 1
    return ids[:end]


def padding_unread(config: Any) -> int | None:
    """The token at which a reward model from elsewhere was never read.

    Transformers reads a score at the last token that is not the config's padding, so where that is
    the token that ends a conversation (as often with padding = EOS), its makers saw the score
    before it. Ours have a padding token that ends none.
    """
    if getattr(config, REWARD_CONFIG, None):
        return None
    return config.get_text_config().pad_token_id


def _batches(order: list[int], rows: list[list[int]], tokens: int) -> Iterator[list[int]]:
    """Indices of rows that come by length, in parts of at most so many tokens."""
    part: list[int] = []
    for i in order:
        if part and (len(part) + 1) * len(rows[i]) > tokens:
            yield part
            part = []
        part.append(i)
    if part:
        yield part


class ModelReward(Reward):
    """What a reward model's scores become: brought to a common scale, pessimistic if asked.

    `normalise`: to mean 0 and standard deviation 1 over held-out demonstrations, if the model's
    config says how; beta then means the same with every reward model. `pessimism` k: the mean of an
    ensemble's heads minus k of their standard deviations, so that what they disagree about pays
    less. `held_out_head`: the last head has no say in the score, and watches over the policy
    instead.
    """

    options_class = ModelRewardOptions
    options: ModelRewardOptions

    def __init__(self, **options: Any):
        self.options = self.options_class(**options)
        self.name = self.options.name
        self.normalise = self.options.normalise

    def load(self, path: Any, context: RewardContext) -> None:
        own = load_scorer(path, how=context.frozen)
        self.use(ScalarModel(own, normalised=self.normalise), path, context)

    def use(self, model: ScalarModel, path: Any, context: RewardContext) -> None:
        self.options.require_ensemble(model.heads_count)
        unread = padding_unread(model.config)
        self.scorer = Scorer(frozen(model), context.encoder(path), unread, context.say)

    @property
    def thumbs_bias(self) -> float | None:
        biases = thumbs_bias(self.scorer.model.config)
        return sum(biases) / len(biases) if biases else None

    def to(self, device: torch.device) -> None:
        self.scorer.model.to(device)

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return self.scorer.raw_heads(prompts, texts)

    def score_texts(
        self,
        prompts: Sequence[Any],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> Tensor:
        return self.combined(self.scorer.heads(prompts, texts, stopped))

    def watch(self, responses: Responses) -> Tensor | None:
        if not self.options.held_out_head:
            return None
        heads = self.scorer.heads(responses.prompts, responses.texts, responses.stopped.tolist())
        return heads[:, -1]

    def combined(self, heads: Tensor) -> Tensor:
        """One score (B,) from those of n heads (B, n)."""
        heads = heads[:, : heads.shape[1] - self.options.held_out_head]
        score = heads.mean(-1)
        return score - self.options.pessimism * heads.std(-1) if self.options.pessimism else score


class LearnedReward(ModelReward):
    """The reward model that this run (or an earlier one) trained on the same preferences.

    It has the policy's tokenizer, so it scores the very ids that were sampled.
    """

    options_class = LearnedRewardOptions

    def check(self, context: RewardContext) -> None:
        context.check_reward_model()

    def bind(self, context: RewardContext) -> None:
        path, policy = context.reward_model(), context.policy()
        shared = policy and reward_on(policy, path, normalised=self.normalise)
        if shared:
            self.use(shared, path, context)
        else:
            self.load(path, context)

    def score(self, responses: Responses) -> Tensor:
        masks = responses.prompt_mask, responses.response_mask
        heads = self.scorer.heads_of_ids(responses.sequences, *masks, responses.prompt_of)
        return self.combined(heads)


class CheckpointReward(ModelReward):
    """Any reward model with a scalar head, from a folder or the hub, with its own tokenizer.

    Text goes in: prompts by its chat template, then the decoded response.
    """

    options_class = CheckpointRewardOptions
    options: CheckpointRewardOptions

    def check(self, context: RewardContext) -> None:
        path, attention = self.options.path, context.frozen.attention
        config = check_scorer(path)
        self.options.require_ensemble(config.num_labels)
        check_attention(config, attention, path, AutoModelForSequenceClassification)
        context.encoder(self.options.path)

    def check_prompts(self, context: RewardContext, prompts: Sequence[Any]) -> None:
        encoder = context.encoder(self.options.path)
        unique = list(dict.fromkeys(prompts))
        for start in range(0, len(unique), CHECKED_AT_ONCE):
            part = unique[start : start + CHECKED_AT_ONCE]
            encoder.conversations(part, [RESPONSE] * len(part))

    def bind(self, context: RewardContext) -> None:
        self.load(self.options.path, context)
