"""The numbers of a judge: of its verdicts on pairs, in both orders."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from harness.judging.both_orders import Judged, Pair, columns
from harness.judging.pairs import Asked
from lightning_modules.metrics.judgements import agreement, judged_metrics

LABELS_LONGER = "longer_by_labels"
# What there is of two policies, and not of pairs whose first response is either one.
OF_FIRST = ("win_rate", "lc_win_rate", "preference", "length_effect")


def judge_numbers(asked: Asked, judged: Sequence[Judged]) -> dict[str, float]:
    """The flat numbers of a judge on N >= 1 pairs. Where the data say which response is better, how
    often it agrees; where policies wrote them, how often each wins against each other one, as
    `<policy>/against/<policy>/...`.
    """
    pairs = columns(judged)
    numbers = judged_metrics(pairs)
    if not pairs.scored.any():
        return numbers
    scored = pairs.where(pairs.scored)
    of_first = {name: numbers.pop(name) for name in [*numbers] if name.startswith(OF_FIRST)}
    if asked.labelled:
        apart = scored.difference[scored.difference != 0]
        if len(apart):
            numbers[LABELS_LONGER] = float((apart > 0).double().mean())
        numbers |= agreement(scored.won, scored.cluster)
        numbers["preference"] = of_first["preference"]
    for (one, other), between in _by_policies(judged):
        found = judged_metrics(columns(between))
        place = f"{one}/against/{other}/"
        numbers |= {place + name: found[name] for name in of_first if name in found}
    return numbers


def _by_policies(judged: Sequence[Judged]) -> Iterator[tuple[tuple[str, str], list[Judged]]]:
    """The pairs between each two policies, the first response being that of the first policy."""
    origins = [each.pair.origins or ("", "") for each in judged]
    names = dict.fromkeys(name for two in origins for name in two)
    for two in combinations(names, 2):
        between = [
            _turned(j, o == two) for j, o in zip(judged, origins, strict=True) if {*o} == {*two}
        ]
        if between:
            yield two, between


def _turned(judged: Judged, as_it_is: bool) -> Judged:
    """The same with the two responses exchanged, unless it is to stay."""
    if as_it_is:
        return judged
    pair = judged.pair
    turned = Pair(pair.prompt, pair.second, pair.first, pair.origins[::-1])
    first, second = (None if p is None else 1 - p for p in (judged.read_second, judged.read_first))
    return Judged(turned, first, second, judged.why_not)
