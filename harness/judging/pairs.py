"""Which pairs of responses a judge is asked about, and what of its verdicts is kept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datamodules.prompts import spread
from datamodules.sources.source import Source, Split
from harness.feedback.answers import prompt_written
from harness.feedback.items import Item
from harness.feedback.pairs import Row, pair_row
from harness.judging.both_orders import UNSCORED, Judged, Pair

NOT_ASKED = "not asked about, by `pairs`"


@dataclass(frozen=True)
class Asked:
    """The pairs that a judge is asked about. `labelled`: the first response of each is the one that
    the data say is better. `left_out` counts what is not asked, by the reason.
    """

    pairs: list[Pair]
    labelled: bool
    left_out: Mapping[str, int] = field(default_factory=dict)


def pairs_of_data(source: Source, splits: Sequence[Split], most: int | None) -> Asked:
    """The pairs of a data set, at most so many, spread over all of them."""
    records = [record for split in splits for record in source.preferences(split)]
    chosen = records if most is None else spread(records, most)
    pairs = [Pair(r.prompt, r.chosen, r.rejected) for r in chosen]
    return Asked(pairs, labelled=True, left_out={NOT_ASKED: len(records) - len(pairs)})


def pairs_of_items(
    items: Sequence[Item], most: int | None, left_out: Mapping[str, int] | None = None
) -> Asked:
    """The pairs that people would be asked about, at most so many, spread over all of them."""
    chosen = list(items) if most is None else spread(items, most)
    pairs = [Pair(item.prompt, *item.responses, item.origins or None) for item in chosen]
    not_asked = {NOT_ASKED: len(items) - len(pairs)}
    return Asked(pairs, labelled=False, left_out={**(left_out or {}), **not_asked})


def label_rows(judged: Sequence[Judged], annotator: str) -> Iterator[Row]:
    """A row for `data=files` of each pair with verdicts: by how much the winner is better is the
    mean of what both orders say, and 0 is a tie.
    """
    for each in judged:
        if each.winner == UNSCORED:
            continue
        pair = each.pair
        order = (1, 0) if each.winner == "second" else (0, 1)
        chosen, rejected = ((pair.first, pair.second)[i] for i in order)
        more: dict[str, Any] = {}
        if pair.origins:
            names = ("chosen_policy", "rejected_policy")
            more = dict(zip(names, (pair.origins[i] for i in order), strict=True))
        lead = 0.0 if each.winner == "tie" else abs(each.read_first + each.read_second - 1)
        strength = round(lead, 6)
        yield pair_row(
            pair.prompt, chosen, rejected, strength=strength, annotators=[annotator], **more
        )


def verdict_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """Every pair with what was said of it in either order."""
    for each in judged:
        pair: dict[str, Any] = {
            "prompt": prompt_written(each.pair.prompt),
            "first": each.pair.first,
            "second": each.pair.second,
        }
        if each.pair.origins:
            pair["policies"] = each.pair.origins
        yield json.dumps(pair | each.row(), ensure_ascii=False) + "\n"
