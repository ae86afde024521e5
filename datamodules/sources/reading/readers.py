"""The rows of a file of your own: JSON, CSV and Parquet."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import DataError
from datamodules.sources.reading.json_rows import json_rows
from datamodules.sources.reading.text import not_utf8, open_bytes, reading, refuse_pointer

JSON = (".jsonl", ".json", ".ndjson")
TABLES = (".csv", ".tsv")
READABLE = (*JSON, *TABLES, *(f"{ending}.gz" for ending in (*JSON, *TABLES)), ".parquet")
SEPARATORS = (",", "\t", ";", "|")
NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?[;,\t]*\s*', re.IGNORECASE)  # Excel's first line


def rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file, each with its place for error messages; a DataError names that place."""
    name = path.name.lower()
    if not name.endswith(READABLE):
        raise DataError(
            f"{path}: cannot read this kind of file; it must be one of {', '.join(READABLE)}"
        )
    kind = name.removesuffix(".gz")
    if kind.endswith(JSON):
        return json_rows(path)
    return _csv_rows(path) if kind.endswith(TABLES) else _parquet_rows(path)


def header_place(where: str) -> str:
    """Where the names of the columns stand that the row at `where` has: in a line of their own in a
    table, in the whole of a Parquet file, and in the row itself of JSON.
    """
    path, _, _ = where.rpartition(", ")
    kind = path.lower().removesuffix(".gz")
    if path.lower().endswith(".parquet"):
        return path
    if not kind.endswith(TABLES):
        return where
    with open_bytes(Path(path)) as file:
        first = io.TextIOWrapper(file, encoding="utf-8-sig", newline="").readline()
    return f"{path}, line {2 if NAMED_SEPARATOR.fullmatch(first) else 1}"


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows by the names in the first line; a row over several lines is named by its first."""
    # Model responses exceed the standard limit of 128 KiB a field.
    csv.field_size_limit(2**31 - 1)
    start = 1
    with open_bytes(path) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            first = lines.readline()
            named = NAMED_SEPARATOR.fullmatch(first)
            above = 1 if named else 0
            first, start = lines.readline() if named else first, start + above
            separator = named[1] if named else _separator(first)
            reader = csv.reader(_joined(first, lines), delimiter=separator, strict=True)
            names: list[str] | None = None
            for fields in reader:
                where, start = f"{path}, line {start}", reader.line_num + 1 + above
                if names is None:
                    names = _header(fields, where)
                elif fields:  # a line with nothing on it is no row
                    yield where, _row(names, fields, where)
        except csv.Error as error:
            raise DataError(f"{path}, line {start}: not valid CSV ({error})") from error
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _separator(header: str) -> str:
    """What parts the fields: whatever of these the first line has most of, outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _header(fields: Sequence[str], where: str) -> list[str]:
    """The names of the columns. One without a name is read by nobody, as the index of a table."""
    names = [name.strip() for name in fields]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(f"{where}: the header names {twice[0]!r} twice; rename one of the two")
    return names


def _row(names: Sequence[str], fields: Sequence[str], where: str) -> dict[str, str]:
    if len(fields) != len(names):
        raise DataError(
            f"{where}: has {len(fields)} fields, the header has {len(names)};"
            " a text that holds the separator, a quote or a line break must be in quotes"
        )
    return {name: field for name, field in zip(names, fields, strict=True) if name}


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with reading(path):
            refuse_pointer(path)
        with reading(path), pq.ParquetFile(path) as file:
            names = Counter(file.schema_arrow.names)
            if twice := [name for name, count in names.items() if count > 1]:
                raise DataError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
            for batch in file.iter_batches():
                for row in _rows_of_batch(batch, path, number):
                    number += 1
                    yield f"{path}, row {number}", row
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a valid Parquet file ({error})") from error


def _rows_of_batch(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """The rows of a batch that has `before` rows before it. Arrow does not look into its texts."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for number, value in enumerate(column, start=before + 1):
                where = f"{path}, row {number}, column {name!r}"
                try:
                    value.as_py()
                except UnicodeDecodeError as error:
                    byte = error.object[error.start]
                    raise DataError(
                        f"{where}, byte {error.start + 1}: not UTF-8 text (byte 0x{byte:02x})"
                    ) from error
        raise
