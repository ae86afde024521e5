"""The rows of a JSON file: one object a line, an array of objects, {"data": [...]} or its like."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.records import DataError
from datamodules.sources.reading.tables import refuse_table
from datamodules.sources.reading.text import lines_of, refuse_halves, whole_text

# The names under which a file may hold its rows, beside what it says of itself; under the latter
# two if it has no other list of objects, but for what the hub's viewer says of columns.
WRAPPERS = ("data", "train", "rows")
ABOUT = "features"
DEEPEST = 100  # levels of lists and objects within a row
SPACE = re.compile(r"[ \t\r\n]*")
MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class Unusable(ValueError):
    """JSON that can be parsed, and has no one meaning."""


def json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file with their places. What it holds counts, not whether it is called .json or
    .jsonl; objects that go over several lines are read from .json alone.
    """
    lines = lines_of(path)
    _, first = next(lines, (1, ""))
    if _is_a_row(first, path):
        return _rows_of_lines(path, is_alone=next(lines, None) is None)
    return _rows_of_values(path)


def _is_a_row(line: str, path: Path) -> bool:
    """Whether the first line is one row of many; a broken one is, where lines are promised."""
    if line.lstrip().startswith("["):
        return False
    try:
        return _wrapped(json.loads(line)) is None
    except (ValueError, RecursionError):
        return not path.name.lower().removesuffix(".gz").endswith(".json")


def _wrapped(value: Any) -> list | None:
    """The rows of {"data": [...]} and its like; None if it is a row itself."""
    if not isinstance(value, dict) or {"chosen", "rejected", "responses"} & value.keys():
        return None
    lists = [name for name, rows in value.items() if name != ABOUT and _are_objects(rows)]
    names = WRAPPERS if len(lists) == 1 else WRAPPERS[:1]
    return next((value[name] for name in names if name in lists), None)


def _are_objects(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _inner(rows: list[dict]) -> list[dict]:
    """The rows as they are, or those that the hub's viewer puts into others with their numbers."""
    if not all("row_idx" in row and isinstance(row.get("row"), dict) for row in rows):
        return rows
    if cut := [row["row_idx"] for row in rows if row.get("truncated_cells")]:
        raise Unusable(f"'truncated_cells' says that texts of 'row_idx' {cut[0]} are cut")
    return [row["row"] for row in rows]


def _rows_of_lines(path: Path, *, is_alone: bool) -> Iterator[tuple[str, Any]]:
    """A row on each line; a line that is alone may be something else."""
    for number, line in lines_of(path):
        where = f"{path}, line {number}"
        with _naming(where):
            value = DECODER.decode(line)
            _check(value, line, where)
        if is_alone:
            refuse_table(value, path)
        yield where, value


def _rows_of_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of one or several values after each other, each a row, a list of rows, or a wrapper."""
    scanner = Scanner(path, whole_text(path))
    while scanner.next():
        if scanner.take("["):
            yield from scanner.rest_of_list()
            continue
        where, value = scanner.value()
        rows = _wrapped(value)
        if rows is not None:
            with _naming(where):
                rows = _inner(rows)
            yield from ((f"{path}, row {n}", row) for n, row in enumerate(rows, start=1))
            continue
        if scanner.number == 1 and not scanner.next():
            refuse_table(value, path)
        yield where, value


class Scanner:
    """Goes through a text of several lines, value by value, and knows where it is."""

    def __init__(self, path: Path, text: str):
        self.path = path
        self.text = text
        self.at = 0
        self.line = 1
        self.number = 0

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        end = SPACE.match(self.text, self.at).end()
        self.line += self.text.count("\n", self.at, end)
        self.at = end
        return self.text[end : end + 1]

    def take(self, character: str) -> bool:
        """Step over `character` if it is the next one."""
        found = self.next() == character
        self.at += found
        return found

    def value(self) -> tuple[str, Any]:
        """The value that comes next, and its place."""
        self.next()
        self.number += 1
        where = f"{self.path}, line {self.line} (row {self.number})"
        with _naming(where, self.path):
            value, end = DECODER.raw_decode(self.text, self.at)
            written = self.text[self.at : end]
            _check(value, written, where)
        self.line += written.count("\n")
        self.at = end
        return where, value

    def rest_of_list(self) -> Iterator[tuple[str, Any]]:
        """The values of a list that has been entered."""
        while not self.take("]"):
            yield self.value()
            if not self.take(",") and self.next() != "]":
                raise DataError(
                    f"{self.path}, line {self.line}: not valid JSON (a comma or ] is missing"
                    + ("; the file ends within the list)" if not self.next() else ")")
                )


@contextlib.contextmanager
def _naming(where: str, file: Path | None = None) -> Iterator[None]:
    """Errors of the parser get the place of the row; of a text of several lines (`file`) the parser
    knows the line itself.
    """
    try:
        yield
    except json.JSONDecodeError as error:
        place = f"{file}, line {error.lineno}" if file else where
        reason = f"{error.msg}, column {error.colno}"
        if not file and error.doc.strip() == "{":
            reason += "; if its objects go over several lines, call the file .json"
        raise DataError(f"{place}: not valid JSON ({reason})") from error
    except RecursionError as error:
        raise DataError(f"{where}: lists and objects are nested too deep") from error
    except Unusable as error:
        raise DataError(f"{where}: {error}") from error
    except DataError:
        raise
    except ValueError as error:  # Python reads no longer ones
        raise DataError(f"{where}: holds a whole number of thousands of digits") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which every name stands once: of two values one would be lost in silence."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Unusable(f"the name {twice!r} stands twice in one object; keep one of them")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _check(value: Any, written: str, where: str) -> None:
    """Raise DataError for what the parser lets through and nothing later could use."""
    if written.count("[") + written.count("{") > DEEPEST and _is_too_deep(value):
        raise DataError(
            f"{where}: lists and objects are nested too deep, {DEEPEST} levels and more"
        )
    if MAYBE_HALF.search(written):
        refuse_halves(value, where)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, list | dict)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)
