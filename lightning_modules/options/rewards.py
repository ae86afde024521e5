"""The options of rewards, checked as soon as they are read."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_modules.errors import OptionError
from lightning_modules.options.modules import load_module, where
from lightning_modules.options.paths import model_folder
from lightning_modules.options.require import one_of, require, require_at_least

# What of a judge is the score: how good a response is, or whether it is better than another.
FORMS = ("rating", "win")


def require_ensemble(heads: int, *, pessimism: float, held_out_head: bool) -> None:
    """Raise OptionError if a reward model of so many heads cannot be used in this way."""
    how = "train an ensemble with reward.ensemble=4"
    scoring = heads - held_out_head
    require(scoring > 0, "reward.held_out_head", True, f"there would be no other head; {how}")
    require(
        pessimism == 0 or scoring > 1,
        "reward.pessimism",
        pessimism,
        f"one head cannot disagree; {how}",
    )


@dataclass(frozen=True, kw_only=True)
class ModelRewardOptions:
    """How a reward model's scores are used; conf/reward/learned.yaml says what each means."""

    name: str
    normalise: bool = True
    pessimism: float = 0.0
    held_out_head: bool = False

    def __post_init__(self):
        require(self.pessimism >= 0, "reward.pessimism", self.pessimism, "must not be negative")

    def require_ensemble(self, heads: int) -> None:
        """Raise OptionError unless a model of so many heads can do what is asked for."""
        require_ensemble(heads, pessimism=self.pessimism, held_out_head=self.held_out_head)


@dataclass(frozen=True, kw_only=True)
class LearnedRewardOptions(ModelRewardOptions):
    """What conf/reward/learned.yaml sets."""

    name: str = "learned"
    ensemble: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.require_ensemble(self.ensemble)


@dataclass(frozen=True, kw_only=True)
class CheckpointRewardOptions(ModelRewardOptions):
    """What conf/reward/checkpoint.yaml sets."""

    name: str = "checkpoint"
    path: str | None

    def __post_init__(self):
        super().__post_init__()
        require(
            bool(self.path), "reward.path", self.path, "give the folder or hub id of a reward model"
        )
        object.__setattr__(self, "path", model_folder(self.path))


@dataclass(frozen=True, kw_only=True)
class FunctionRewardOptions:
    """What conf/reward/function.yaml sets."""

    name: str = "function"
    path: str | None

    def __post_init__(self):
        require(
            bool(re.fullmatch(r"(\w[\w.]*|.+\.py):\w+", str(self.path or ""))),
            "reward.path",
            self.path,
            "must be module:function, or file.py:function",
        )

    def module(self) -> ModuleType:
        """The module that the function is in; OptionError if it cannot be imported."""
        name = self.path.rpartition(":")[0]
        try:
            return load_module(name)
        except (Exception, SystemExit) as error:
            raise OptionError(f"reward.path={self.path}: {_why_not(name, error)}") from error

    def load(self) -> Callable[..., Any]:
        """The function itself; OptionError if there is none."""
        module, name = self.module(), self.path.rpartition(":")[2]
        function = getattr(module, name, None)
        place = getattr(module, "__file__", None) or module.__name__
        require(function is not None, "reward.path", self.path, f"{place} has no {name}")
        require(callable(function), "reward.path", self.path, f"must name a function of {place}")
        return function


def _why_not(name: str, error: BaseException) -> str:
    """What is wrong with a module that cannot be imported, with the line of its code."""
    if name.endswith(".py") and not Path(name).expanduser().is_file():
        return "there is no such file"
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        return (
            f"there is no module {error.name}, neither in the folder where you run ({os.getcwd()})"
            " nor among the installed ones"
        )
    return f"importing it raised {error!r:.300}{where(error)}"


@dataclass(frozen=True, kw_only=True)
class PeopleRewardOptions:
    """What conf/reward/people.yaml sets."""

    name: str = "people"
    overlap: int = 1
    minutes: float = 20.0
    store: str | None = None
    instructions: str | None = None
    lease: float = 5.0
    host: str = "127.0.0.1"
    port: int = 8765

    def __post_init__(self):
        require_at_least(1, "reward", overlap=self.overlap)
        for name in ("minutes", "lease"):
            value = getattr(self, name)
            require(value > 0, f"reward.{name}", value, "must be above 0, in minutes")
        require(0 <= self.port < 65536, "reward.port", self.port, "must lie in [0, 65535]")


@dataclass(frozen=True, kw_only=True)
class JudgeRewardOptions:
    """What conf/reward/judge.yaml sets."""

    name: str = "judge"
    form: str = "rating"
    both_orders: bool = True

    def __post_init__(self):
        require(self.form in FORMS, "reward.form", self.form, one_of(FORMS))


@dataclass(frozen=True, kw_only=True)
class CombinedRewardOptions:
    """What conf/reward/combined.yaml sets."""

    name: str = "combined"
    rewards: Mapping[str, Any]
    weights: Mapping[str, float]

    def __post_init__(self):
        require(bool(self.rewards), "reward.rewards", self.rewards, "give at least one reward")
        for name in ("rewards", "weights"):
            value = getattr(self, name)
            require(isinstance(value, Mapping), f"reward.{name}", value, "must be {name: ...}")
        for each, weight in self.weights.items():
            number = isinstance(weight, int | float)
            require(number, f"reward.weights.{each}", weight, "must be a number")
        for each in self.rewards.keys() ^ self.weights.keys():
            where = "weights" if each in self.rewards else "rewards"
            require(False, f"reward.{where}.{each}", None, "every reward needs a weight")
