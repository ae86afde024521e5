"""Two responses to a prompt, read by a judge in either order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from datamodules.records import Prompt
from lightning_modules.judges.judge import Judge
from lightning_modules.judges.verdict import Verdict
from lightning_modules.metrics.judgements import BothOrders, column

# What is asked before it is told how far it is: of an endpoint, so many rounds of the questions
# that it gets at a time; of a model in this process, so many pairs.
ROUNDS, IN_PROCESS = 4, 4
UNSCORED = "unscored"


@dataclass(frozen=True)
class Pair:
    """Two responses to a prompt, and what wrote them, if that is known."""

    prompt: Prompt
    first: str
    second: str
    origins: tuple[str, str] | None = None


@dataclass(frozen=True)
class Judged:
    """A pair with the verdicts on it: the probability that its first response is the better one,
    where that is read first, and where it is read second; None without a verdict, and `why_not`.
    """

    pair: Pair
    read_first: float | None
    read_second: float | None
    why_not: str | None = None

    @property
    def winner(self) -> str:
        """first or second, if both orders prefer it, tie, if not, or unscored."""
        both = self.read_first, self.read_second
        if None in both:
            return UNSCORED
        if min(both) > 0.5:
            return "first"
        return "second" if max(both) < 0.5 else "tie"

    def row(self) -> dict[str, Any]:
        """What files of responses and of pairs say of the verdicts."""
        why = {"why_not": self.why_not} if self.why_not else {}
        both = {"read_first": self.read_first, "read_second": self.read_second}
        return {"winner": self.winner, **both, **why}


def in_both_orders(
    judge: Judge, pairs: Sequence[Pair], tell: Callable[[int], None] = lambda done: None
) -> list[Judged]:
    """Ask `judge` for both orders of each pair; `tell` gets the number of pairs that are done.

    Two responses that are the same are a tie, and nobody is asked. Questions are asked in parts:
    what was answered is in the judge's cache, so that who is stopped goes on from there. Raises
    JudgeError where the judge does.
    """
    done: list[Judged] = []
    options = judge.options
    size = IN_PROCESS if options.local else options.concurrency * ROUNDS // 2
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        found = _asked(judge, [pair for pair in part if pair.first != pair.second])
        done += [found.get(pair) or Judged(pair, 0.5, 0.5) for pair in part]
        tell(len(done))
    return done


def _asked(judge: Judge, pairs: Sequence[Pair]) -> dict[Pair, Judged]:
    prompts = [pair.prompt for pair in pairs]
    firsts, seconds = [pair.first for pair in pairs], [pair.second for pair in pairs]
    verdicts = judge.compare(prompts * 2, firsts + seconds, seconds + firsts)
    both = zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)
    return {pair: _judged(pair, *two) for pair, two in zip(pairs, both, strict=True)}


def _judged(pair: Pair, first: Verdict, second: Verdict) -> Judged:
    turned = None if second.value is None else 1 - second.value
    return Judged(pair, first.value, turned, first.why_not or second.why_not)


def columns(judged: Sequence[Judged]) -> BothOrders:
    """The pairs as tensors, those of one prompt in one cluster."""
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(j.pair.prompt for j in judged))}
    return BothOrders(
        read_first=column(j.read_first for j in judged),
        read_second=column(j.read_second for j in judged),
        difference=column(len(j.pair.first) - len(j.pair.second) for j in judged),
        cluster=torch.tensor([numbers[j.pair.prompt] for j in judged]),
    )


def no_verdicts(judged: Sequence[Judged]) -> str:
    """Why there are none: what is said of the first pair without one."""
    return next((each.why_not for each in judged if each.why_not), "no reason was given")
