"""JSON files that are one object and no row: named, with the command that makes rows of it."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.records import DataError

# An object with one of these is a row itself, or so far from one that its columns are the matter.
OF_ROWS = {"prompt", "chosen", "rejected", "responses", "instruction", "messages", "completions"}
OF_MESSAGES = {"role", "from", "content"}
MOST_NAMES = 5  # in a message


def refuse_table(value: Any, path: Path) -> None:
    """Raise DataError if `value`, all that a file holds, is an object that holds rows."""
    if not isinstance(value, Mapping) or not (found := _what_it_is(value)):
        return
    what, rows = found
    names = ", ".join(map(repr, list(value)[:MOST_NAMES]))
    more = f" and {len(value) - MOST_NAMES} more" if len(value) > MOST_NAMES else ""
    raise DataError(
        f"{path}: is one object ({names}{more}) with {what}; make JSON lines, a row on each:"
        f" {_command(rows, path)}"
    )


def _what_it_is(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the object holds, and its rows as an expression of Python, where it is called d."""
    inner = list(value.values())
    is_of = [type(each) for each in inner]
    if {"columns", "data"} <= value.keys() and _is_list_of(value["data"], list):
        return (
            "rows in 'data' and their 'columns' apart",
            '(dict(zip(d["columns"],v)) for v in d["data"])',
        )
    if set(is_of) == {list} and _are_columns(inner):
        return "a list for each column", "(dict(zip(d,v)) for v in zip(*d.values()))"
    if set(is_of) == {dict} and _are_numbered(inner):
        columns = "(dict(zip(d,v)) for v in zip(*(c.values() for c in d.values())))"
        return "an object for each column", columns
    if OF_ROWS & value.keys():
        return None
    if set(is_of) == {dict} and len(inner) > 1 and not any(OF_MESSAGES & v.keys() for v in inner):
        return "a row under each name", "d.values()"
    lists = [name for name, each in value.items() if _is_list_of(each, dict)]
    if lists and not any(OF_MESSAGES & row.keys() for name in lists for row in value[name]):
        others = f" (and others in {', '.join(map(repr, lists[1:]))})" if lists[1:] else ""
        return f"its rows in {lists[0]!r}{others}", f"d[{_literal(lists[0])}]"
    return None


def _are_columns(lists: list[list]) -> bool:
    """Whether they are as long as each other; those of objects may be conversations of one row."""
    lengths = {len(each) for each in lists}
    return len(lengths) == 1 and lengths != {0} and not any(_is_list_of(x, dict) for x in lists)


def _are_numbered(columns: list[dict]) -> bool:
    """Whether all have the same names, which are the numbers of rows."""
    first = list(columns[0])
    return bool(first) and all(map(str.isdecimal, first)) and all(list(c) == first for c in columns)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, kind) for x in value)


def _literal(name: str) -> str:
    """A text of Python between double quotes: a shell's are single ones."""
    return json.dumps(name, ensure_ascii=False)


def _command(rows: str, path: Path) -> str:
    """A line for the shell that writes these rows into a new file."""
    code = f"import json,sys; d=json.load(sys.stdin.buffer); [print(json.dumps(r)) for r in {rows}]"
    program, file = f"python -c {shlex.quote(code)}", shlex.quote(str(path))
    if path.name.lower().endswith(".gz"):
        return f"gzip -dc {file} | {program} > rows.jsonl"
    return f"{program} < {file} > rows.jsonl"
