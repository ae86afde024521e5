"""Columns that a file calls otherwise than we do: which ones may be meant."""

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.sources.reading.readers import header_place

# What others call our columns; of a name of several words one is enough (chosen_response).
COMMON = {
    "prompt": ("prompt", "question", "query", "instruction", "input", "context", "post"),
    "chosen": ("chosen", "good", "better", "best", "preferred", "accepted", "winner", "win", "pos"),
    "rejected": ("rejected", "bad", "worse", "worst", "dispreferred", "loser", "lose", "neg"),
}
COMMON["chosen"] += ("positive", "accept", "choose", "y_w")
COMMON["rejected"] += ("negative", "reject", "y_l", "unpreferred")
PAIR = ("chosen", "rejected")
UNKNOWN = "<name>"
SPLIT = re.compile(r"[^a-zA-Z]+|(?<=[a-z])(?=[A-Z])")
NEAR = 0.8  # of a name that is misspelt
SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"))


def no_column(
    missing: str,
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    where: str,
    others_have_it: bool = False,
) -> str:
    """The message for a row without our column `missing`: where names are, which there are, and
    what to say. `columns` are the file's names for ours.
    """
    names = f"no column {columns[missing]!r}; the columns are {', '.join(map(repr, row))}"
    if others_have_it:
        return f"{where}: {names}; the rows before it have that column"
    if told := two_beside(row):
        return f"{header_place(where)}: {names}. {told}"
    named = _renamed(missing, row, columns)
    # A transcript needs no prompt: it may be this row's own matter.
    place = where if missing == "prompt" and UNKNOWN in named else header_place(where)
    return f"{place}: {names}; say {named}"


def _renamed(missing: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The options that name the columns of a row, as they can be pasted."""
    wanted = [c for c in COMMON if columns[c] not in row and missing in (c, *PAIR)]
    free = [name for name in row if name not in columns.values()]
    found: dict[str, str] = {}
    for column in wanted:
        left = [name for name in free if name not in found.values()]
        if name := _likely(column, left):
            found[column] = name
    options = [shlex.quote(f"data.columns.{c}={name}") for c, name in found.items()]
    return " ".join(
        [*options, *([] if missing in found else [f"data.columns.{missing}={UNKNOWN}"])]
    )


def _likely(column: str, names: Sequence[str]) -> str | None:
    """The name that a column of ours has there: the same but for its letters' case, a common one,
    one with such a word in it, or one that is misspelt.
    """
    common = COMMON[column]
    tests = (
        lambda name: name.lower() == column,
        lambda name: name.lower() in common,
        lambda name: set(common) & {word.lower() for word in SPLIT.split(name)},
        lambda name: difflib.SequenceMatcher(None, name.lower(), column).ratio() >= NEAR,
    )
    return next((name for test in tests for name in names if test(name)), None)


def two_beside(row: Mapping[str, Any]) -> str:
    """What to do with two responses side by side, and a column that says which is better."""
    names = [str(name) for name in row]
    for first, second in SIDES:
        for name in names:
            other = re.sub(rf"(?<![a-z]){first}$", second, name)
            if other != name and other in names:
                return (
                    f"Of {name!r} and {other!r} write the better one into 'chosen' and the other"
                    " into 'rejected'"
                )
    return ""
