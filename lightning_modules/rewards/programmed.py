"""Scores that no model gives: a function of yours, the gold of an embedded world, nothing."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.errors import OptionError
from lightning_modules.options.modules import where
from lightning_modules.options.rewards import FunctionRewardOptions
from lightning_modules.rewards.reward import Reward, RewardContext

LARGEST = torch.finfo(torch.float32).max


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


class NoReward(Reward):
    """Says nothing of any response, where only a judge is to compare them: all are worth 0."""

    words = "none, the judge alone compares"

    def __init__(self, *, name: str = "none"):
        self.name = name

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return torch.zeros(len(texts), 1)


class FunctionReward(Reward):
    """`reward.path=my_module:score`: called with the prompts and the responses, two lists of text,
    it returns a number for each; None or NaN where it cannot score.
    """

    def __init__(self, **options: Any):
        self.options = FunctionRewardOptions(**options)
        self.name = self.options.name
        self.path = self.options.path
        self.words = f"the function {self.path}"
        self.function = self.options.load()

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        questions, responses = [p.text for p in prompts], list(texts)
        try:
            scores = _listed(self.function(list(questions), list(responses)))
        except (Exception, SystemExit) as error:
            raise self._failure(questions, responses, error) from error
        return torch.tensor(self._numbers(scores, questions, responses))[:, None]

    def _numbers(self, scores: Any, prompts: list[str], texts: list[str]) -> list[float]:
        if not isinstance(scores, list):
            raise OptionError(
                f"reward.path={self.path}: must return a list of numbers, not {_shown(scores)}"
            )
        if len(scores) != len(texts):
            raise OptionError(
                f"reward.path={self.path}: returned {len(scores)} scores for {len(texts)} responses"
            )
        numbers = [_number(score) for score in scores]
        for i, number in enumerate(numbers):
            if math.isinf(number):
                raise OptionError(
                    f"reward.path={self.path}: returned {_shown(scores[i])}, which is no finite"
                    f" number and not None, for {_row(i, prompts, texts)}"
                )
        return numbers

    def _failure(self, prompts: list[str], texts: list[str], error: BaseException) -> OptionError:
        """The function failed on a batch: which row is it that it fails on?"""
        what = f"reward.path={self.path}: raised {error!r:.300}{where(error)}"
        for i in range(len(texts)):
            try:
                _listed(self.function(prompts[i : i + 1], texts[i : i + 1]))
            except (Exception, SystemExit) as of_row:
                return OptionError(
                    f"reward.path={self.path}: raised {of_row!r:.300}{where(of_row)} for"
                    f" {_row(i, prompts, texts)}. Return None for what it cannot score"
                )
        return OptionError(f"{what} for a batch of {len(texts)}, and for none of its rows alone")


def _listed(scores: Any) -> Any:
    """Scores as a list, even those of a generator; what is none, as it is."""
    try:
        iterator = iter(scores)
    except TypeError:
        return scores
    return list(iterator)


def _number(score: Any) -> float:
    """A score as float32 holds it; NaN for None, infinite for what is no number.

    Text that looks like a number is a mistake all the same.
    """
    if score is None:
        return math.nan
    try:
        number = float(score + 0)
    except Exception:  # of whatever type it is
        return math.inf
    return number if math.isnan(number) or abs(number) <= LARGEST else math.inf


def _shown(value: Any) -> str:
    """What a function returned, in a line; even a number of 10,000 digits, which repr refuses."""
    try:
        return f"{value!r:.100}"
    except Exception:
        return f"a {type(value).__name__}"


def _row(i: int, prompts: list[str], texts: list[str]) -> str:
    return f"row {i} of {len(texts)}: prompt {prompts[i]!r:.200}, response {texts[i]!r:.200}"
