"""Rows of public sets in one form: prompt, responses, ratings, why one is left out, its split."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Features, Value

from datamodules.sources.cleaning import MALFORMED, cleaned
from datamodules.sources.messages import ROLES, read_messages

MARK = "\ufeff"  # a byte order mark, which the library takes for text
BLANK = "blank"  # a line without anything on it is no row
FEATURES = Features(
    {
        "prompt": [{"role": Value("string"), "content": Value("string")}],
        "responses": [Value("string")],
        "ratings": [Value("float64")],
        "reason": Value("string"),
        "split": Value("string"),
        "cut": Value("int64"),
    }
)
Row = Mapping[str, Any]
Reader = Callable[[Row], dict[str, Any]]


def normalised(
    prompt: Sequence[Mapping[str, str]],
    responses: Sequence[str],
    ratings: Sequence[float],
    split: str = "",
    cut: int = 0,
) -> dict[str, Any]:
    """What a reader returns; of `cut` responses further turns were cut off. Raises ValueError if no
    response can follow the prompt.
    """
    messages = [m._asdict() for m in read_messages(prompt, "prompt")]
    if messages[-1]["role"] != "user" or any(m["role"] not in ROLES for m in prompt):
        raise ValueError("the roles of the prompt")
    for text in (*(m["content"] for m in messages), *responses):
        text.encode()  # halves of surrogate pairs can be written in JSON, and not in UTF-8
    responses, ratings, reason = cleaned(messages[-1]["content"], responses, ratings)
    return {
        "prompt": messages,
        "responses": responses,
        "ratings": ratings,
        "reason": reason,
        "split": split,
        "cut": cut,
    }


def normalise_row(row: Row, reader: Reader, lines: bool, code: str) -> dict[str, Any]:
    """A normalised row, whatever the row is; `code` makes the cache one of this code."""
    nothing = {"prompt": [], "responses": [], "ratings": [], "split": "", "cut": 0}
    if lines and not row["text"].strip():
        return nothing | {"reason": BLANK}
    try:
        return reader(parsed(row, lines))
    except (LookupError, TypeError, ValueError, AttributeError):
        return nothing | {"reason": MALFORMED}


def parsed(row: Row, lines: bool) -> Any:
    """The row, or what its line of JSON says; the line itself if it is no JSON."""
    if not lines:
        return row
    try:
        return json.loads(row["text"].removeprefix(MARK))
    except json.JSONDecodeError:
        return row["text"]


@functools.cache
def code_version() -> str:
    """The library tells functions of modules apart by their names only, not by what they do."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
