"""What people are asked: answers to a prompt, and what may be said of them.

What was said is a short text, in terms of the item's own order of responses:

    pair      first, second, tie, both_bad
    thumb     up, down
    ranking   the numbers of the responses, the best first: 2>0=3>1
    any       skip
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from datamodules.records import DataError, Prompt

Kind = Literal["pair", "thumb", "ranking"]
# How many responses an item of a kind has, at least and at most. More than nine have no keys.
SIZES: dict[str, tuple[int, int]] = {"pair": (2, 2), "thumb": (1, 1), "ranking": (3, 9)}
CHOICES: dict[str, tuple[str, ...]] = {
    "pair": ("first", "second", "tie", "both_bad"),
    "thumb": ("up", "down"),
}
SKIP = "skip"
MIRRORED = {"first": "second", "second": "first"}


class ChoiceError(ValueError):
    """What cannot be said of an item."""


@dataclass(frozen=True)
class Item:
    """One or several responses to a prompt. `origins` says of each what wrote it, or is empty; who
    labels never sees it. `id` is one in a store: the same item added again is that item.
    """

    id: str
    kind: Kind
    prompt: Prompt
    responses: tuple[str, ...]
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least, most = SIZES[self.kind]
        if not least <= len(self.responses) <= most:
            raise DataError(
                f"a {self.kind} has {least} to {most} answers, not {len(self.responses)}"
            )
        if self.origins and len(self.origins) != len(self.responses):
            raise DataError("there must be an origin for each answer")

    @classmethod
    def of(
        cls, kind: Kind, prompt: Prompt, responses: Sequence[str], origins: Sequence[str] = ()
    ) -> "Item":
        """An item whose id follows from its texts, in whatever order its responses are."""
        texts = [kind, [list(m) for m in prompt.messages], sorted(responses)]
        digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
        return cls(digest[:20], kind, prompt, tuple(responses), tuple(origins))

    def check(self, choice: str) -> None:
        """Raise ChoiceError unless this can be said of the item."""
        if choice == SKIP or choice in CHOICES.get(self.kind, ()):
            return
        ranked = _places(choice) if self.kind == "ranking" else []
        if sorted(chain.from_iterable(ranked)) != [*self.numbers]:
            raise ChoiceError(f"{choice!r:.80} cannot be said of a {self.kind}")

    def in_own_order(self, choice: str, order: Sequence[int]) -> str:
        """What was said of responses that were shown in another order: `order[i]` is the number of
        the response in place i. Raises ChoiceError as `check` does.
        """
        self.check(choice)
        if self.kind == "pair" and tuple(order) == (1, 0):
            return MIRRORED.get(choice, choice)
        if self.kind == "ranking" and choice != SKIP:
            places = [sorted(order[place] for place in tied) for tied in _places(choice)]
            return ">".join("=".join(map(str, tied)) for tied in places)
        return choice

    @property
    def numbers(self) -> range:
        """Of its responses."""
        return range(len(self.responses))


def ratings(item: Item, choice: str) -> tuple[float, ...] | None:
    """What a choice says each response is worth: the share of the others that it beats, ties being
    half, in [0, 1]; None if nothing was said of which is better.
    """
    if item.kind == "thumb" or choice == SKIP:
        return None
    if item.kind == "pair":
        return {"first": (1.0, 0.0), "second": (0.0, 1.0)}.get(choice, (0.5, 0.5))
    worth = [0.0] * len(item.responses)
    below = len(item.responses)
    for tied in _places(choice):
        below -= len(tied)
        for number in tied:
            worth[number] = (below + (len(tied) - 1) / 2) / (len(item.responses) - 1)
    return tuple(worth)


def _places(choice: str) -> list[list[int]]:
    """The numbers in a ranking, those that share a place together, the best first."""
    try:
        return [[int(number) for number in tied.split("=")] for tied in choice.split(">")]
    except ValueError:
        return [[-1]]
