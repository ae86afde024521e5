"""Votes as files for `data=files`: a row a pair or a ranking, all its votes together, and a row for
each thumb.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.feedback.items import SKIP, Item, ratings
from harness.feedback.pairs import Row, pair_row, ranking_row, thumb_row, write_rows
from harness.feedback.store import Vote
from lightning_modules.errors import OptionError

PLURALS = {"pair": "pairs", "ranking": "rankings", "thumb": "thumbs"}


def export(path: Path, items: Mapping[str, Item], votes: Sequence[Vote]) -> dict[Path, int]:
    """Write the labels, and return how many rows each file has. Pairs, rankings and thumbs are in
    files of their own, the first of these kinds in `path`: labels.jsonl, labels.thumbs.jsonl.
    OptionError if a file is there that no export has written.
    """
    rows = rows_by_kind(items, votes)
    names = [path, *(path.with_suffix(f".{PLURALS[kind]}{path.suffix}") for kind in [*rows][1:])]
    for name in names:
        if name.exists() and not _is_export(name):
            raise OptionError(
                f"export={name}: is there already, and no export of labels; give another name"
            )
    for name, of_kind in zip(names, rows.values(), strict=True):
        write_rows(name, of_kind)
    return {name: len(of_kind) for name, of_kind in zip(names, rows.values(), strict=True)}


def _is_export(file: Path) -> bool:
    """Whether the first row of a file is a label, with who gave it."""
    try:
        with open(file, encoding="utf-8") as lines:
            row = json.loads(lines.readline() or "{}")
    except (OSError, ValueError):
        return False
    return isinstance(row, dict) and "annotator" in row


def rows_by_kind(items: Mapping[str, Item], votes: Sequence[Vote]) -> dict[str, list[Row]]:
    """The rows of each kind that has any, in the order of the items."""
    said: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        if vote.choice != SKIP:
            said[vote.item].append(vote)
    rows: dict[str, list[Row]] = {kind: [] for kind in PLURALS}
    for item in items.values():
        if item.id in said:
            rows[item.kind] += _rows(item, said[item.id])
    return {kind: of_kind for kind, of_kind in rows.items() if of_kind}


def _rows(item: Item, votes: Sequence[Vote]) -> list[Row]:
    if item.kind == "thumb":
        return [_thumb(item, vote) for vote in votes]
    annotators = list(dict.fromkeys(vote.annotator for vote in votes))
    if item.kind == "pair":
        return [_pair(item, Counter(vote.choice for vote in votes), annotators)]
    each = [ratings(item, vote.choice) for vote in votes]
    mean = [round(sum(column) / len(each), 6) for column in zip(*each, strict=True)]
    origins = {"policies": [*item.origins]} if item.origins else {}
    return [ranking_row(item.prompt, item.responses, mean, annotators=annotators, **origins)]


def _pair(item: Item, counts: Counter[str], annotators: Sequence[str]) -> Row:
    """The response that won more votes is `chosen`; of a tie, or if both are bad, strength is 0."""
    lead = counts["first"] - counts["second"]
    better, worse = (0, 1) if lead >= 0 else (1, 0)
    more: dict[str, Any] = {"both_bad": True} if counts["both_bad"] * 2 > counts.total() else {}
    if item.origins:
        more |= {"chosen_policy": item.origins[better], "rejected_policy": item.origins[worse]}
    return pair_row(
        item.prompt,
        item.responses[better],
        item.responses[worse],
        strength=round(abs(lead) / counts.total(), 6),
        annotators=annotators,
        **more,
    )


def _thumb(item: Item, vote: Vote) -> Row:
    more = {"policy": item.origins[0]} if item.origins else {}
    return thumb_row(
        item.prompt,
        item.responses[0],
        vote.choice == "up",
        annotator=vote.annotator,
        **more,
    )
