"""Scores from a language model that judges: ratings, or wins against the reference."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.errors import OptionError
from lightning_modules.judges.judge import Judge
from lightning_modules.options.rewards import JudgeRewardOptions
from lightning_modules.rewards.reward import Reward, RewardContext


class JudgeReward(Reward):
    """`form` rating: the rating of a response, in the rubric's scale. `form` win: the probability
    that it is better than the reference's response to the same prompt, by the mean of both orders.
    What has no verdict has no score.
    """

    judge: Judge

    def __init__(self, **options: Any):
        self.options = JudgeRewardOptions(**options)
        self.name = self.options.name

    @property
    def words(self) -> str:
        wins = ", wins against the reference" if self.options.form == "win" else ""
        return f"a judge, {self.judge.words}{wins}"

    def check(self, context: RewardContext) -> None:
        if context.judge is None:
            raise OptionError("reward=judge: needs a judge: judge=helpful judge.model=...")
        if self.options.form == "rating":
            context.judge.require_scale()
        context.judge.check(context.judging())

    def bind(self, context: RewardContext) -> None:
        self.judge = context.judge
        self.judge.bind(context.judging())
        self.reference_responses = context.reference_responses

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        if self.options.form == "win":
            return torch.tensor(self._wins(list(prompts), list(texts)))[:, None]
        verdicts = self.judge.rate(prompts, texts)
        return torch.tensor([_or_nan(verdict.value) for verdict in verdicts])[:, None]

    def _wins(self, prompts: list[Any], texts: list[str]) -> list[float]:
        """A response that is the reference's own is worth 1/2, and nobody is asked."""
        others = self.reference_responses(prompts)
        triples = list(zip(prompts, texts, others, strict=True))
        asked = [triple for triple in triples if triple[1] != triple[2]]
        orders = [asked, [(p, other, text) for p, text, other in asked]]
        if not self.options.both_orders:
            orders.pop()
        rows = [row for order in orders for row in order]
        said = self.judge.compare(*zip(*rows, strict=True)) if rows else []
        values = [_or_nan(verdict.value) for verdict in said]
        wins = values[: len(asked)]
        if self.options.both_orders:
            backwards = values[len(asked) :]
            wins = [(a + 1 - b) / 2 for a, b in zip(wins, backwards, strict=True)]
        known = dict(zip(asked, wins, strict=True))
        return [known.get(triple, 0.5) for triple in triples]

    def counts(self) -> dict[str, int]:
        return self.judge.counted()


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
