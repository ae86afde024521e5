"""The parts of a run in their order, how long they take, and how long they will.

What a part costs is counted beforehand (costs.py); the pace is measured: of the part in hand on its
own steps, of those to come on the steps of the latest one that was measured.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from harness.durations import duration, roughly
from harness.progress.costs import Cost
from harness.reports.plain_console import line

# Seconds of training before an estimate is worth anything: of whole steps, of the first one's parts
# (which begins slowly).
MEASURED = 2.0
MEASURED_WITHIN = 20.0
# From one word on it to the next, within a part: seconds, and share of the whole time, at least.
PATIENCE = 20.0
PATIENCE_SHARE = 0.1
# An estimate that has changed by more is said again.
CHANGED = 0.2
TITLES = {"sft": "reference", "reward_model": "reward model"}
ABBREVIATIONS = ("ppo", "a2c", "reinforce", "rloo", "sft")


@dataclass
class Pace:
    """How much of some work is done, from `begun` on (both shares of it), and in how many
    seconds.
    """

    begun: float = 0.0
    done: float = 0.0
    seconds: float = 0.0

    def start(self, share: float) -> None:
        self.begun = self.done = share
        self.seconds = 0.0

    def reach(self, share: float, seconds: float) -> None:
        """So far since the start."""
        self.done, self.seconds = share, seconds

    def of(self, cost: float) -> float | None:
        """Seconds a token; None where nothing was measured."""
        measured = (self.done - self.begun) * cost
        return self.seconds / measured if measured > 0 and self.seconds > 0 else None


@dataclass
class Part:
    """A part of a run by its short name; without a cost it is in the cache."""

    name: str
    title: str
    cost: Cost | None
    train: Pace = field(default_factory=Pace)
    evaluate: Pace = field(default_factory=Pace)
    steps: int = 0  # whole ones that were measured
    started: float = 0.0
    seconds: float = 0.0  # once it is over

    def left(self, pace: float | None) -> float | None:
        """Seconds to its end; `pace`, of another part, until it has one of its own."""
        if self.cost is None:
            return 0.0
        own = self.train.of(self.cost.train) or pace
        if own is None:
            return None
        judging = self.evaluate.of(self.cost.evaluate) or own
        before = 0.0 if self.train.seconds else self.cost.before
        return (
            own * ((1 - self.train.done) * self.cost.train + before + self.cost.after)
            + judging * (1 - self.evaluate.done) * self.cost.evaluate
        )


class Plan:
    """What a run has before it. Without parts (for what is no training) it says nothing."""

    def __init__(
        self,
        console: Console,
        parts: Sequence[Part] = (),
        clock: Callable[[], float] = time.perf_counter,
        started: float | None = None,
    ):
        self.console = console
        self.parts = list(parts)
        self.clock = clock
        self.started = clock() if started is None else started
        self.part: Part | None = None
        self.said: tuple[float, float, Part] | None = None  # how long in all, when, in which part

    def show(self) -> None:
        """All parts, in one line."""
        if len(self.parts) > 1:
            told = (
                f"{self._number(part)}{' (reused)' * (part.cost is None)}" for part in self.parts
            )
            self.console.print(", ".join(told))

    def begin(self, name: str) -> Part:
        """The part of this name begins, and the one before it is over."""
        self._close()
        known = [part for part in self.parts if part.name == name]
        self.part = known[0] if known else Part(name, title_of(name), Cost(1.0))
        self.part.started = self.clock()
        if known and len(self.parts) > 1:
            self.console.print(line((self._number(self.part), "bold")))
        return self.part

    def reuse(self, name: str) -> None:
        """Another run has made this part meanwhile."""
        for part in self.parts:
            if part.name == name:
                part.cost = None

    def left(self) -> float | None:
        """Seconds to the end of the part in hand; None where that cannot be said yet."""
        return self.part.left(None) if self.part else None

    def in_all(self) -> float | None:
        """Seconds that the whole run will have taken."""
        if self.part not in self.parts:
            return None
        pace = self.part.cost and self.part.train.of(self.part.cost.train)
        to_come = self.parts[self.parts.index(self.part) :]
        left = [part.left(pace) for part in to_come]
        return None if None in left else self.clock() - self.started + sum(left)

    def note(self) -> None:
        """Say how long the run takes in all, once that is known and when it has changed much."""
        total, now = self.in_all(), self.clock()
        if total is None or not self._is_measured():
            return
        if self.said is not None:
            told, when, part = self.said
            soon = now - when < max(PATIENCE, PATIENCE_SHARE * told) and part is self.part
            if soon or abs(total - told) <= CHANGED * told:
                return
        self.said = (total, now, self.part)
        self.console.print(f"about {roughly(total)} in all{self._by_part()}")

    def finish(self) -> None:
        """How long it took."""
        self._close()
        seconds = self.clock() - self.started
        self.console.print(f"finished in {duration(seconds)}{self._by_part()}")

    def _close(self) -> None:
        if self.part:
            self.part.seconds = self.clock() - self.part.started
        self.part = None

    def _is_measured(self) -> bool:
        return self.part.train.seconds >= (MEASURED if self.part.steps else MEASURED_WITHIN)

    def _by_part(self) -> str:
        """What each part takes, where there are several."""
        if len(self.parts) < 2:
            return ""
        pace = self.part and self.part.train.of(self.part.cost.train)
        told = []
        for part in self.parts:
            if part.cost is None:
                told.append(f"{part.title} reused")
            elif part.seconds:
                told.append(f"{part.title} {duration(part.seconds)}")
            else:
                so_far = self.clock() - part.started if part is self.part else 0.0
                told.append(f"{part.title} {roughly(so_far + part.left(pace))}")
        return f": {', '.join(told)}"

    def _number(self, part: Part) -> str:
        return f"{self.parts.index(part) + 1}/{len(self.parts)} {part.title}"


def title_of(name: str, *, is_stage: bool = True) -> str:
    """What a part is called on the terminal: of the abbreviations in capitals."""
    if is_stage and name in TITLES:
        return TITLES[name]
    return name.upper() if name in ABBREVIATIONS else name.replace("_", " ")
