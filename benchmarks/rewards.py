"""Rewards by rules, for runs whose reward must be known: `reward.path=benchmarks.rewards:...`."""

from collections.abc import Sequence
from typing import Any


def about_ten_words(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """Minus the distance from ten words."""
    return [-float(abs(len(text.split()) - 10)) for text in responses]


def short_words(prompts: Sequence[Any], responses: Sequence[str]) -> list[float | None]:
    """Minus the mean number of letters a word; None where there are fewer than five words."""
    lengths = [[len(word.strip(".,;:!?")) for word in text.split()] for text in responses]
    return [-sum(words) / len(words) if len(words) >= 5 else None for words in lengths]
