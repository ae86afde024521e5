"""The interface of a source, and what all sources share."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from datamodules.records import DataError, Demonstration, Preference, Prompt

Split = Literal["train", "val"]


class Source(ABC):
    """Preference data of one kind. A subclass yields preferences; the rest follows from them.

    `val` holds prompts that `train` does not have, so that nothing is measured on what was learned.
    `counts` says how many rows were read, and why any were left out.
    """

    # The true quality of an answer in [0, 1], where a source knows it: (prompt, answer) -> gold.
    gold: ClassVar[Callable[[Any, Prompt, str], float] | None] = None

    def __init__(self, *, name: str, max_prompt_tokens: int, max_response_tokens: int):
        for option, value in (
            ("max_prompt_tokens", max_prompt_tokens),
            ("max_response_tokens", max_response_tokens),
        ):
            if value < 1:
                raise DataError(f"data.{option}={value}: must be at least 1")
        self.name = name
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.counts: Counter[str] = Counter()

    @abstractmethod
    def preferences(self, split: Split) -> list[Preference]:
        """The preference pairs of a split, always in the same order."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when, and only when, the records may change."""

    def demonstrations(self, split: Split) -> list[Demonstration]:
        """Answers to imitate: every distinct chosen answer once."""
        distinct = dict.fromkeys((p.prompt, p.chosen) for p in self.preferences(split))
        return [Demonstration(prompt, chosen) for prompt, chosen in distinct]

    def prompts(self, split: Split) -> list[Prompt]:
        """The distinct prompts of a split, in order of first appearance."""
        return list(dict.fromkeys(p.prompt for p in self.preferences(split)))

    def texts(self) -> list[str]:
        """Training text, for a tokenizer to be trained on."""
        texts: dict[str, None] = {}
        for pair in self.preferences("train"):
            texts.update(dict.fromkeys(m.content for m in pair.prompt.messages))
            texts.update(dict.fromkeys((pair.chosen, pair.rejected)))
        return list(texts)
