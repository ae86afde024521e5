"""What a row says of how good its responses are, outside of the columns that are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datamodules.records import DataError
from datamodules.sources.ratings import LOWEST_WORDS, RATING_WORDS, as_number, words

# Columns of one value that may say which response is the best: "best", "chosen_idx", "label".
PICKS = {"best", "chosen", "preferred", "preference", "winner", "choice", "selected", "label"}
OF_PICKS = PICKS | {"index", "idx", "id", "of", "the", "is", "number", "response", "answer"}
# Columns of ours that are not read beside a ranking.
OTHERS = ("chosen", "rejected", "response", "label")
TEXT = ("content", "value", "text", "role", "from")  # of messages: what is said, and by whom


def require_best_first(
    row: Mapping, responses: Sequence[Any], read: Mapping[str, str], where: str
) -> None:
    """DataError if a row without ratings rates its responses in a place that is not read: they
    would count as best first. `read` are the file's names for our columns.
    """
    ratings, place = read["ratings"], f"{where}, column {read['responses']!r}"
    if name := next(_judging(responses), None):
        raise DataError(
            f"{place}: has no column {ratings!r} beside it, so that the responses would count as"
            f" best first, but they hold {name!r}, which is not read there: write these values into"
            f" a list {ratings!r}, one for each response (with data.best=lowest 1 is better than"
            f" 2); without {name!r} they are best first"
        )
    for name, value in row.items():
        if name in read.values() and name not in {read[column] for column in OTHERS}:
            continue
        if told := _rates(str(name), value, len(responses)):
            raise DataError(
                f"{where}: has no column {ratings!r}, so that its responses"
                f" would count as best first, but {name!r} {told}; without that column they are"
                " best first"
            )
        if _picks_another(str(name), value, responses[0]):
            raise DataError(
                f"{where}: has no column {ratings!r}, so that its responses would count as best"
                f" first, but {name!r} is {value!r:.60}: if it says which one is the best, put that"
                f" one first or write a list {ratings!r} (1 for the best one, 0 for the others)"
                " instead; if it says something else, leave that column out"
            )


def _rates(name: str, value: Any, count: int) -> str:
    """How a column rates the responses, and what to do; "" if it does not."""
    is_rating = bool((RATING_WORDS | PICKS) & words(name))
    if isinstance(value, Mapping):
        numbers = [part for part in value.values() if as_number(part) is not None]
        if is_rating and len(numbers) == count:
            return f"has {count} numbers: write them as a list 'ratings', in the responses' order"
        inner = next((k for k, v in value.items() if _rates(str(k), v, count)), None)
        return f"has {inner!r}: write it as a column 'ratings'" if inner is not None else ""
    if not isinstance(value, list) or not value:
        return ""
    if is_rating and all(isinstance(part, list) and len(part) == count for part in value):
        return "has several for each: write a list 'ratings' with one number for each response"
    if len(value) != count:
        return ""
    if any(isinstance(part, Mapping) for part in value):
        key = next(_judging(value), None)
        return f"has {key!r} for each: write them as a list of numbers 'ratings'" if key else ""
    if not is_rating:
        return ""
    if any(isinstance(part, bool) for part in value):
        return "has true or false for each: write a list 'ratings' with 1 or 0 for each instead"
    return (
        f"has a value for each: data.columns.ratings={name} reads it, and with data.best=lowest 1"
        " is better than 2"
    )


def _picks_another(name: str, value: Any, first: Any) -> bool:
    """Whether a column may say that another response than the first is the best."""
    said = words(name)
    if not (said & PICKS and said <= OF_PICKS) or value == first:
        return False
    number = as_number(value)
    if number is None and isinstance(value, str):
        return bool(value.strip()) and "label" not in said
    return number not in (None, 0)


def _judging(value: Any) -> Iterator[str]:
    """The names of ratings in objects and in lists of them, the innermost first."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in TEXT:
                yield from _judging(inner)
                if inner not in (None, "", []) and RATING_WORDS & words(str(name)):
                    yield str(name)
    elif isinstance(value, list):
        for inner in value:
            yield from _judging(inner)


def rates_rejected_higher(row: Mapping, chosen: str, rejected: str) -> str:
    """The columns, or what the two responses hold, by which the rejected response of a pair is the
    better one; "" if there are none.
    """
    pairs = [(name, str(name).replace("chosen", "rejected")) for name in row]
    found = [
        (f"{better} and {worse}", row[better], row[worse])
        for better, worse in pairs
        if better != worse and worse in row
    ]
    inside = [_last(row.get(name)) for name in (chosen, rejected)]
    found += [
        (f"{name} of the messages", *(side.get(name) for side in inside)) for name in inside[0]
    ]
    for name, better, worse in found:
        first, second = as_number(better), as_number(worse)
        if first is None or second is None or not RATING_WORDS & words(name):
            continue
        if first > second if LOWEST_WORDS & words(name) else first < second:
            return name
    return ""


def _last(response: Any) -> Mapping:
    """The message in which a response ends."""
    last = response[-1] if isinstance(response, list) and response else response
    return last if isinstance(last, Mapping) else {}
