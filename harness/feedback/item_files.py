"""Items from files: answers of `task=generate`, or rows as `data=files` reads them.

What such rows say of which response is better is not looked at: people shall say it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from datamodules.records import DataError, Prompt
from datamodules.sources.chats import from_prompt, from_shared_beginning, read_chat
from datamodules.sources.lessons import COLUMNS
from datamodules.sources.reading.columns import no_column
from datamodules.sources.reading.forms import in_our_form
from datamodules.sources.reading.several import files_of, named, rows_of_all
from harness.feedback.answers import AnsweredPrompt, answered
from harness.feedback.items import SIZES, Item, Kind

COLUMN = {column: column for column in COLUMNS}


class Written(NamedTuple):
    """A response and, where it is known, what wrote it and which of its samples it is."""

    text: str
    origin: str = ""
    sample: int | None = None


def read_items(path: str | Sequence[str], kind: Kind, counts: Counter[str]) -> list[Item]:
    """The items of files; `counts` is told what was left out. DataError for a row that has not what
    a `kind` needs, and for files without any.

    Pairs are of two policies with the same sample's number or, of one policy, of its first two
    answers, the next two, and so on.
    """
    files = files_of("items", path)
    items: dict[str, Item] = {}
    for where, row in in_our_form(rows_of_all(files), COLUMN):
        counts["rows"] += 1
        prompt, written = _read(row, where)
        for item in of_answers(kind, prompt, written, where, counts):
            counts["repeated"] += item.id in items
            items.setdefault(item.id, item)
    if not items:
        raise DataError(f"{named(files)}: no {kind} in it ({_told(counts) or 'no row'})")
    return list(items.values())


def of_answered(row: AnsweredPrompt) -> list[Written]:
    """The responses of a row of `task=generate`."""
    return [Written(answer.text, answer.policy, answer.sample) for answer in row.answers]


def of_answers(
    kind: Kind, prompt: Prompt, written: Sequence[Written], where: str, counts: Counter[str]
) -> Iterator[Item]:
    """The items of one prompt. Responses that say the same are not compared."""
    if kind == "thumb":
        groups: Iterable[Sequence[Written]] = [[each] for each in dict.fromkeys(written)]
    elif kind == "pair":
        groups = _pairs(written)
    else:
        first: dict[str, Written] = {}
        for each in written:
            first.setdefault(each.text, each)
        groups = [list(first.values())]
    least, most = SIZES[kind]
    if len(written) < least:
        raise DataError(
            f"{where}: has {len(written)} answer{'s' * (len(written) != 1)}, and a {kind} needs"
            f" {least}: task=generate samples={least} writes as many; task=label kind=thumb asks"
            " people about single ones"
        )
    for group in groups:
        if len(group) > most:
            raise DataError(f"{where}: has {len(group)} answers, and a {kind} at most {most}")
        if len({each.text for each in group}) < least:
            counts["identical"] += 1
            continue
        origins = [each.origin for each in group] if any(each.origin for each in group) else []
        yield Item.of(kind, prompt, [each.text for each in group], origins)


def _pairs(written: Sequence[Written]) -> list[Sequence[Written]]:
    """Which responses are compared."""
    by_origin: defaultdict[str, list[Written]] = defaultdict(list)
    for each in written:
        by_origin[each.origin].append(each)
    if len(by_origin) == 1:
        return [written[i : i + 2] for i in range(0, len(written) - 1, 2)]
    return [
        pair
        for first, second in combinations(by_origin.values(), 2)
        for pair in zip(first, second, strict=False)
    ]


def _read(row: Any, where: str) -> tuple[Prompt, list[Written]]:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row must be an object with named fields, not {row!r:.60}")
    if "answers" in row and "responses" not in row:
        found = answered(row, where)
        return found.prompt, of_answered(found)
    responses, places = _responses(row, where)
    chats = [read_chat(*pair) for pair in zip(responses, places, strict=True)]
    system = row.get("system") or None
    if row.get("prompt") is None:
        no_prompt = partial(no_column, "prompt", row, COLUMN, where)
        told = from_shared_beginning(chats, where, no_prompt, system)
    else:
        told = from_prompt(read_chat(row["prompt"], f"{where}, prompt"), chats, where, system)
    return told.prompt, [Written(text) for text in told.responses]


def _responses(row: Mapping[str, Any], where: str) -> tuple[list[Any], list[str]]:
    """What stands in the columns of responses, and where."""
    if "chosen" in row and "rejected" in row:
        names = ["chosen", "rejected"]
        return [row[name] for name in names], [f"{where}, column {name!r}" for name in names]
    if isinstance(found := row.get("responses"), list):
        place = f"{where}, column 'responses'"
        return found, [f"{place}, number {i}" for i in range(1, len(found) + 1)]
    if "response" in row:
        return [row["response"]], [f"{where}, column 'response'"]
    raise DataError(
        f"{where}: has none of 'answers' (of task=generate), 'chosen' and 'rejected', a list"
        f" 'responses', or 'response'; its columns are {', '.join(map(repr, row))}"
    )


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
