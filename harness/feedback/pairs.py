"""Rows that `data=files` reads, as people's and judges' labels become them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import Prompt
from harness.disk.files import write_text
from harness.feedback.answers import prompt_written

Row = dict[str, Any]


def pair_row(
    prompt: Prompt,
    chosen: str,
    rejected: str,
    *,
    strength: float | None = None,
    annotators: Sequence[str] = (),
    **more: Any,
) -> Row:
    """`chosen` was preferred. `strength` in [0, 1]: the share of votes for it less that against it;
    0 is a tie, None unknown. `more` is written as it is.
    """
    row = {"prompt": prompt_written(prompt), "chosen": chosen, "rejected": rejected}
    return row | _known({"strength": strength, "annotator": _named(annotators), **more})


def ranking_row(
    prompt: Prompt,
    responses: Sequence[str],
    ratings: Sequence[float],
    *,
    annotators: Sequence[str] = (),
    **more: Any,
) -> Row:
    """Several responses, with a rating for each: the highest is the best, equal ones are ties."""
    row = {"prompt": prompt_written(prompt), "responses": [*responses], "ratings": [*ratings]}
    return row | _known({"annotator": _named(annotators), **more})


def thumb_row(
    prompt: Prompt, response: str, label: bool, *, annotator: str | None = None, **more: Any
) -> Row:
    """One response that was liked, or was not."""
    row = {"prompt": prompt_written(prompt), "response": response, "label": label}
    return row | _known({"annotator": annotator, **more})


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, as a whole; DiskError if they cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _named(annotators: Sequence[str]) -> str | list[str] | None:
    """One name alone, or a list."""
    return annotators[0] if len(annotators) == 1 else list(annotators) or None


def _known(fields: Mapping[str, Any]) -> Row:
    return {name: value for name, value in fields.items() if value is not None}
