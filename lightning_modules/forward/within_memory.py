"""Running out of a device's memory: a step is begun anew with half as much at a time."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from lightning_modules.errors import TrainingError

T = TypeVar("T")


class AsManyAsFit:
    """How many sequences or tokens a model takes at a time; None: no limit. Halved where a device
    runs out of memory, which `say` tells a person in a line: from here on `takes` so many.
    """

    option = "data.max_prompt_tokens"  # what is to be lowered if one at a time is too much

    def __init__(
        self,
        takes: str,
        sequences: int | None = None,
        tokens: int | None = None,
        say: Callable[[str], None] = warnings.warn,
    ):
        self.takes = takes
        self.sequences = sequences
        self.tokens = tokens
        self.say = say

    def words(self) -> str:
        """What is taken at most."""
        limits = [
            f"{limit:,} {unit}"
            for limit, unit in (
                (self.sequences, "responses"),
                (self.tokens, "tokens with padding"),
            )
            if limit is not None
        ]
        return " and ".join(limits) or "any number of responses"

    def within_memory(self, step: Callable[[], T], rows: int) -> T:
        """What `step` says of `rows` sequences. Where the device runs out of memory, it begins anew
        with half as much at a time; TrainingError where that is not enough.

        `step` must leave nothing behind that counts when it is begun anew.
        """
        for _ in range(self.halvings(rows)):
            try:
                return step()
            except torch.OutOfMemoryError:
                pass  # what the step has made is held by its frames until here
            self._halve(rows)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.say(f"out of memory: from here on {self.takes} {self.words()}")
        try:
            return step()
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.option, error) from error

    def halvings(self, rows: int) -> int:
        """How often a step of so many rows may be begun anew: until it takes one at a time."""
        return (self.tokens or min(self.sequences or rows, rows)).bit_length() - 1

    def _halve(self, rows: int) -> None:
        if self.tokens is not None:
            self.tokens = max(1, self.tokens // 2)
        else:
            self.sequences = max(1, min(self.sequences or rows, rows) // 2)


def out_of_memory(option: str, error: torch.OutOfMemoryError) -> TrainingError:
    """What to do where a device has run out of memory for good."""
    said = str(error).split(". ")[0]
    return TrainingError(
        f"out of memory ({said}). The run's checkpoints hold the state before: lower {option} and"
        " resume, or use hardware.checkpointing=true, fewer data.max_response_tokens or"
        " adapter=lora"
    )
