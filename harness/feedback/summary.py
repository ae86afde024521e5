"""What the votes of a store say of themselves: how many, how fast, how far people agree."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from harness.feedback.agreement import krippendorff_alpha, percent_agreement
from harness.feedback.items import SKIP, Item, ratings
from harness.feedback.store import Vote

WINS = {"first": 0, "second": 1}
Unit = tuple[str, int, int]  # what a label is of: an item or, of a ranking, two of its responses


@dataclass(frozen=True)
class Share:
    """A share of `count` votes; ties are half."""

    value: float
    count: int


@dataclass(frozen=True)
class Annotator:
    """What one annotator did. `agreement`: the share of others' labels of the same things that are
    as this one's; `seconds` is the median.
    """

    name: str
    labels: int
    skipped: int
    seconds: float | None
    agreement: float | None
    first_shown: Share | None


@dataclass(frozen=True)
class Summary:
    """Of all votes. `twice`: items with labels of several; `agreement` in [0, 1] and `alpha` are
    over those. `first_shown`: how often the pair's response in the first place won, of the votes
    with a winner. `wins`: of the policies that pairs compare, how often each is the better one.
    """

    items: int
    labels: int
    skipped: int
    twice: int
    agreement: float | None
    alpha: float | None
    seconds: float | None
    first_shown: Share | None
    wins: Mapping[str, Share]
    annotators: Sequence[Annotator]


def summarise(items: Mapping[str, Item], votes: Sequence[Vote]) -> Summary:
    """The summary of votes on these items."""
    labels = [vote for vote in votes if vote.choice != SKIP]
    units: defaultdict[Unit, dict[str, str]] = defaultdict(dict)
    for vote in labels:
        for unit, label in _units(items[vote.item], vote):
            units[unit][vote.annotator] = label
    several = [list(of_unit.values()) for of_unit in units.values() if len(of_unit) > 1]
    names = dict.fromkeys(vote.annotator for vote in votes)
    return Summary(
        items=len({vote.item for vote in labels}),
        labels=len(labels),
        skipped=len(votes) - len(labels),
        twice=len({unit[0] for unit, of_unit in units.items() if len(of_unit) > 1}),
        agreement=percent_agreement(several),
        alpha=krippendorff_alpha(several),
        seconds=_median(labels),
        first_shown=_first_shown(labels),
        wins=_wins(items, labels),
        annotators=[_annotator(name, votes, units) for name in names],
    )


def _units(item: Item, vote: Vote) -> Iterator[tuple[Unit, str]]:
    """What a vote labels: an item, or every two responses of a ranking."""
    if item.kind != "ranking":
        yield (item.id, 0, 0), vote.choice
        return
    worth = ratings(item, vote.choice)
    for i, j in combinations(item.numbers, 2):
        better = "first" if worth[i] > worth[j] else "second"
        yield (item.id, i, j), "tie" if worth[i] == worth[j] else better


def _annotator(
    name: str, votes: Sequence[Vote], units: Mapping[Unit, Mapping[str, str]]
) -> Annotator:
    own = [vote for vote in votes if vote.annotator == name]
    labels = [vote for vote in own if vote.choice != SKIP]
    alike = [
        label == of_unit[name]
        for of_unit in units.values()
        if name in of_unit
        for other, label in of_unit.items()
        if other != name
    ]
    return Annotator(
        name=name,
        labels=len(labels),
        skipped=len(own) - len(labels),
        seconds=_median(labels),
        agreement=sum(alike) / len(alike) if alike else None,
        first_shown=_first_shown(labels),
    )


def _median(votes: Sequence[Vote]) -> float | None:
    seconds = [vote.seconds for vote in votes if vote.seconds is not None]
    return median(seconds) if seconds else None


def _first_shown(votes: Sequence[Vote]) -> Share | None:
    """Of votes with a winner, where the order is known."""
    won = [
        vote.order[0] == WINS[vote.choice] for vote in votes if vote.choice in WINS and vote.order
    ]
    return Share(sum(won) / len(won), len(won)) if won else None


def _wins(items: Mapping[str, Item], votes: Sequence[Vote]) -> dict[str, Share]:
    """How often each policy's response is the better one of a pair of two policies."""
    worth: defaultdict[str, list[float]] = defaultdict(list)
    for vote in votes:
        item = items[vote.item]
        if item.kind == "pair" and len(set(item.origins)) == 2:
            for origin, rating in zip(item.origins, ratings(item, vote.choice), strict=True):
                worth[origin].append(rating)
    return {origin: Share(sum(each) / len(each), len(each)) for origin, each in worth.items()}
