"""What can be trusted of files that grow while a run trains, after a crash: whole rows only."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import RunError


class Rows(NamedTuple):
    """The rows of a metrics.csv before the first that is not whole, as text by column; what is
    wrong with that one, None if all are whole.
    """

    rows: list[dict[str, str]]
    wrong: str | None

    @property
    def first_step(self) -> int:
        return int(self.rows[0]["step"]) if self.rows else 1

    @property
    def last_step(self) -> int:
        return self.first_step + len(self.rows) - 1 if self.rows else 0


def metrics_rows(path: Path) -> Rows:
    """A metrics.csv, whose rows are of steps that follow each other. Its end may be cut off or be
    filled with NUL, as a power cut leaves it. RunError if it cannot be read.
    """
    *lines, torn = _text(path).split("\n")
    try:
        table = list(csv.reader(lines, strict=True))
    except csv.Error:  # NUL, for one; line by line, to find it
        table = [_fields(line) for line in lines]
    header = table[0] if table else []
    if header[:1] != ["step"] or len(set(header)) < len(header):
        return Rows([], f"{path}, row 1: is no header that begins with step")
    rows: list[dict[str, str]] = []
    for number, fields in enumerate(table[1:], start=2):
        wrong = _not_whole(header, fields, int(rows[-1]["step"]) + 1 if rows else None)
        if wrong:
            return Rows(rows, f"{path}, row {number}: {wrong}")
        rows.append(dict(zip(header, fields, strict=True)))
    return Rows(rows, f"{path}, row {len(table) + 1}: is cut off" if torn else None)


def json_rows(path: Path, iterations: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The whole lines of a JSONL file of objects that are of an iteration up to `iterations`, and
    what is wrong with the others. A last line that was cut off is none. RunError if it cannot be
    read.
    """
    *lines, _ = _text(path).split("\n")
    rows, wrong = [], []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None or (rows and row.keys() != rows[0].keys()):
            wrong.append(f"{path}, line {number}: is damaged; it is left out")
        elif row["iteration"] <= iterations:
            rows.append(row)
    return rows, wrong


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _not_whole(header: list[str], fields: list[str], step: int | None) -> str | None:
    """What is wrong with a row; None if it is whole and of this step (None: of any)."""
    if len(fields) != len(header):
        return f"has {len(fields)} of {len(header)} fields"
    if not fields[0].isdecimal() or (step is not None and int(fields[0]) != step):
        expected = "a step" if step is None else f"step {step}"
        return f"is not of {expected} but of {fields[0]!r:.40}"
    for name, value in zip(header, fields, strict=True):
        try:
            float(value or 0)
        except ValueError:
            return f"{name} is {value!r:.40}, which is no number"
    return None


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(row, dict) and type(row.get("iteration")) is int
    return row if good else None
