"""Rewards by rules, for runs whose reward must be known: `reward.path=benchmarks.rewards:...`."""

from collections.abc import Sequence
from typing import Any


def about_ten_words(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """Minus the distance from ten words."""
    return [-float(abs(len(text.split()) - 10)) for text in responses]


def brief(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """Minus the number of words."""
    return [-float(len(text.split())) for text in responses]
