"""What every source yields, whatever the file or hub set it came from."""

from dataclasses import dataclass
from typing import NamedTuple


class DataError(ValueError):
    """Input that cannot be used; the message names the file, row or column and what to do."""


class Message(NamedTuple):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """The conversation that a response continues, ending with a turn of the user."""

    messages: tuple[Message, ...]

    @classmethod
    def from_text(cls, text: str) -> "Prompt":
        """A conversation of one user turn."""
        return cls((Message("user", text),))

    @property
    def text(self) -> str:
        """For people: the user's words alone, or the whole conversation if it has several turns."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{m.role}: {m.content}" for m in self.messages)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A response to imitate."""

    prompt: Prompt
    response: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt, of which `chosen` was preferred.

    `probability` is the true probability of that preference, where the world is known; `strength`
    says how much better the chosen response is, in units of the source, where it says so.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    probability: float | None = None
    strength: float | None = None

    @property
    def responses(self) -> tuple[str, ...]:
        return self.chosen, self.rejected

    @property
    def ratings(self) -> tuple[float, ...]:
        return 1.0, 0.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """K >= 2 responses to one prompt, each with a rating: higher is better, equal is a tie."""

    prompt: Prompt
    responses: tuple[str, ...]
    ratings: tuple[float, ...]

    def preferences(self) -> list[Preference]:
        """Every pair of responses that differ in rating; the difference is its strength."""
        rated = list(zip(self.responses, self.ratings, strict=True))
        return [
            Preference(self.prompt, better, worse, strength=high - low)
            for better, high in rated
            for worse, low in rated
            if high > low
        ]


@dataclass(frozen=True, slots=True)
class Thumb:
    """One response by itself, which somebody liked or did not.

    `probability` is the true probability of that answer, where the world is known.
    """

    prompt: Prompt
    response: str
    liked: bool
    probability: float | None = None

    @property
    def responses(self) -> tuple[str, ...]:
        return (self.response,)


Comparison = Preference | Ranking
Feedback = Comparison | Thumb
