"""Scores that no model gives: a Python function of yours, or the gold of an embedded world."""

import importlib
import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.options import OptionError, require
from lightning_modules.rewards.reward import Answers, Reward, RewardContext


class GoldReward(Reward):
    """The true quality of an answer, where the data knows it (data=landmarks)."""

    def __init__(self, *, name: str = "gold"):
        self.name = name

    def check(self, context: RewardContext) -> None:
        if context.gold is None:
            raise OptionError("reward=gold: this data has no known gold; data=landmarks has")

    def bind(self, context: RewardContext) -> None:
        self.gold = context.gold

    def score(self, answers: Answers) -> Tensor:
        pairs = zip(answers.prompts, answers.texts, strict=True)
        golds = [self.gold(prompt, text) for prompt, text in pairs]
        return torch.tensor(golds, dtype=torch.float32, device=answers.sequences.device)


class FunctionReward(Reward):
    """`reward.path=my_module:score`: called with the prompts and the responses, two lists of text,
    it returns one finite number for each.
    """

    def __init__(self, *, name: str = "function", path: str | None):
        require(
            bool(re.fullmatch(r"\w[\w.]*:\w+", path or "")),
            "reward.path",
            path,
            "must be module:function",
        )
        self.name = name
        self.path = path
        self.function = _import(path)

    def score(self, answers: Answers) -> Tensor:
        scores = self.function([p.text for p in answers.prompts], list(answers.texts))
        try:
            numbers = [float(s) for s in scores]
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"reward.path={self.path}: must return a list of numbers, not {scores!r:.100}"
            ) from error
        if len(numbers) != len(answers.texts):
            raise OptionError(
                f"reward.path={self.path}: returned {len(numbers)} scores for"
                f" {len(answers.texts)} responses"
            )
        for number, text in zip(numbers, answers.texts, strict=True):
            if not math.isfinite(number):
                raise OptionError(
                    f"reward.path={self.path}: returned {number} for the response {text!r:.200}"
                )
        return torch.tensor(numbers, dtype=torch.float32, device=answers.sequences.device)


def _import(path: str) -> Callable:
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"reward.path={path}: {error}; the module must be importable from where you run"
        ) from error
    require(callable(function), "reward.path", path, "must name a function")
    return function
