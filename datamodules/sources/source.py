"""The interface of a source, and what all sources share."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datamodules.records import (
    Comparison,
    DataError,
    Demonstration,
    Feedback,
    Preference,
    Prompt,
    Ranking,
    Thumb,
)

Split = Literal["train", "val"]
# What becomes of comparisons with a prompt or a response above the limits of tokens.
TOO_LONG = ("cut", "leave_out")


@dataclass(frozen=True)
class Added:
    """Feedback from elsewhere, where each prompt was first found, and plain values that change
    when, and only when, the feedback may change.
    """

    feedback: list[Feedback]
    places: Mapping[Prompt, str]
    identity: dict[str, Any]


class Source(ABC):
    """Feedback of one kind. A subclass yields comparisons, or thumbs on single responses, or both;
    the rest follows from them.

    `val` holds prompts that `train` does not have, so that nothing is measured on what was learned.
    `counts` says how many rows were read, why any were left out, and what was put right in others.
    `max_prompt_tokens` and `max_response_tokens` are None where the data say what suits.
    `notes` are lines that a user should read before anything is trained, `cautions` those that must
    not be missed. `best` is the rating that is the best in the source's own words. `added` teaches
    reward models and nothing else: prompts, demonstrations, tokenizers and limits stay what they
    are without it.
    """

    # The true quality of a response in [0, 1], where a source knows it: (prompt, response) -> gold.
    gold: ClassVar[Callable[[Any, Prompt, str], float] | None] = None
    # What an annotator of a source that makes its own data prefers: (prompt, a, b, rng) -> a pair.
    annotate: ClassVar[Callable[[Any, Prompt, str, str, Any], Preference] | None] = None
    best: str | None = None
    added: Added | None = None

    def __init__(
        self,
        *,
        name: str,
        max_prompt_tokens: int | None,
        max_response_tokens: int | None,
        too_long: str = "cut",
    ):
        for option, value in (
            ("max_prompt_tokens", max_prompt_tokens),
            ("max_response_tokens", max_response_tokens),
        ):
            if value is not None and value < 1:
                raise DataError(f"data.{option}={value}: must be at least 1")
        if too_long not in TOO_LONG:
            raise DataError(f"data.too_long={too_long}: must be one of {', '.join(TOO_LONG)}")
        self.name = name
        self.too_long = too_long
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.cautions: list[str] = []

    @property
    def least_tokens(self) -> int:
        """Tokens of a prompt and a response of full length, as far as their limits are given."""
        return (self.max_prompt_tokens or 1) + (self.max_response_tokens or 1)

    @abstractmethod
    def comparisons(self, split: Split) -> list[Comparison]:
        """The preference pairs and rankings of a split, always in the same order."""

    def thumbs(self, split: Split) -> list[Thumb]:
        """The single responses of a split that somebody liked or did not, in the same order."""
        return []

    def feedback(self, split: Split) -> list[Feedback]:
        """All that was said of responses: the comparisons, then the thumbs."""
        return [*self.comparisons(split), *self.thumbs(split)]

    def require_feedback(self) -> None:
        """DataError if there are prompts alone, of which nothing can be learned."""
        if not self.feedback("train"):
            raise DataError(
                f"data={self.name}: has prompts alone, and neither comparisons nor thumbs to learn"
                " from; for a pretrained policy give a reward that needs none, such as"
                " reward=checkpoint, reward=function or reward=judge"
            )

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that change when, and only when, the records may change."""

    def refuse(self, refused: Mapping[Prompt, str]) -> None:
        """Do without the prompts that the chat template refuses, each with its reason; DataError
        where that cannot be.
        """
        raise DataError(next(iter(refused.values())))

    def preferences(self, split: Split) -> list[Preference]:
        """The preference pairs of a split, those of its rankings included; ties are none."""
        return [
            pair
            for comparison in self.comparisons(split)
            for pair in (
                comparison.preferences() if isinstance(comparison, Ranking) else [comparison]
            )
        ]

    def taught(self, split: Split) -> list[Feedback]:
        """What reward models learn from: the feedback, and to train on what was added to it."""
        own = self.feedback(split)
        return [*own, *self.added.feedback] if self.added and split == "train" else own

    def demonstrations(self, split: Split) -> list[Demonstration]:
        """Responses to imitate: every distinct response that was chosen, ranked first or liked,
        once.
        """
        best = (
            (c.prompt, response) for c in self.feedback(split) for response in best_responses(c)
        )
        return [Demonstration(prompt, response) for prompt, response in dict.fromkeys(best)]

    def prompts(self, split: Split) -> list[Prompt]:
        """The distinct prompts of a split, in order of first appearance."""
        return list(dict.fromkeys(c.prompt for c in self.feedback(split)))

    def texts(self) -> list[str]:
        """Training text, for a tokenizer to be trained on."""
        texts: dict[str, None] = {}
        for told in self.feedback("train"):
            texts.update(dict.fromkeys(m.content for m in told.prompt.messages))
            texts.update(dict.fromkeys(told.responses))
        return list(texts)


def best_responses(told: Feedback) -> list[str]:
    """The preferred response, those with the highest rating, or one that was liked."""
    if isinstance(told, Thumb):
        return [told.response] if told.liked else []
    rated = zip(told.responses, told.ratings, strict=True)
    return [response for response, rating in rated if rating == max(told.ratings)]
