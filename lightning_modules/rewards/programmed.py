"""Scores that no model gives: a Python function of yours, or the gold of an embedded world."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.errors import OptionError
from lightning_modules.options.rewards import FunctionRewardOptions
from lightning_modules.rewards.reward import Reward, RewardContext


class GoldReward(Reward):
    """The true quality of a response, where the data knows it (data=landmarks)."""

    def __init__(self, *, name: str = "gold"):
        self.name = name

    def check(self, context: RewardContext) -> None:
        if context.gold is None:
            raise OptionError("reward=gold: this data has no known gold; data=landmarks has")

    def bind(self, context: RewardContext) -> None:
        self.gold = context.gold

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor([[self.gold(prompt, text)] for prompt, text in pairs])


class FunctionReward(Reward):
    """`reward.path=my_module:score`: called with the prompts and the responses, two lists of text,
    it returns a number for each; None or NaN where it cannot score.
    """

    def __init__(self, **options: Any):
        self.options = FunctionRewardOptions(**options)
        self.name = self.options.name
        self.path = self.options.path
        self.function = self.options.load()

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        questions, responses = [p.text for p in prompts], list(texts)
        try:
            scores = self.function(questions, responses)
        except Exception as error:
            raise self._failure(questions, responses, error) from error
        return torch.tensor(self._numbers(scores, questions, responses))[:, None]

    def _numbers(self, scores: Any, prompts: list[str], texts: list[str]) -> list[float]:
        try:
            scores = list(scores)
        except TypeError as error:
            raise OptionError(
                f"reward.path={self.path}: must return a list of numbers, not {scores!r:.100}"
            ) from error
        if len(scores) != len(texts):
            raise OptionError(
                f"reward.path={self.path}: returned {len(scores)} scores for {len(texts)} responses"
            )
        numbers = []
        for i, score in enumerate(scores):
            try:
                # Text that looks like a number is a mistake all the same.
                number = math.nan if score is None else float(score + 0)
            except (TypeError, ValueError):
                number = math.inf
            if math.isinf(number):
                raise OptionError(
                    f"reward.path={self.path}: returned {score!r:.100}, which is no finite number"
                    f" and not None, for {_row(i, prompts, texts)}"
                )
            numbers.append(number)
        return numbers

    def _failure(self, prompts: list[str], texts: list[str], error: Exception) -> OptionError:
        """The function failed on a batch: which row is it that it fails on?"""
        what = f"reward.path={self.path}: raised {error!r:.300}"
        for i in range(len(texts)):
            try:
                self.function(prompts[i : i + 1], texts[i : i + 1])
            except Exception as of_row:
                return OptionError(
                    f"reward.path={self.path}: raised {of_row!r:.300} for"
                    f" {_row(i, prompts, texts)}. Return None for what it cannot score"
                )
        return OptionError(f"{what} for a batch of {len(texts)}, and for none of its rows alone")


def _row(i: int, prompts: list[str], texts: list[str]) -> str:
    return f"row {i} of {len(texts)}: prompt {prompts[i]!r:.200}, response {texts[i]!r:.200}"
