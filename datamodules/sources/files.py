"""Preference pairs from your own files: JSONL (also .gz), CSV and Parquet.

Rows are `prompt`, `chosen`, `rejected`, as text or as chat messages ({"role", "content"}), where
the answers may repeat the prompt's messages (as the public sets do); or, without a prompt, two
transcripts "\\n\\nHuman: ...\\n\\nAssistant: ..." that share a prefix (as HH-RLHF does).
"""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules.records import DataError, Message, Preference, Prompt
from datamodules.sources.source import Source, Split

COLUMNS = ("prompt", "chosen", "rejected")
ROLES = ("system", "user", "assistant")
READABLE = ".jsonl, .jsonl.gz, .csv, .parquet"
TURN = re.compile(r"\n\n(Human|Assistant):")
ASSISTANT = "\n\nAssistant:"


class Files(Source):
    """One file of pairs, split by prompt, or a second file as the held-out set."""

    def __init__(
        self,
        *,
        name: str = "files",
        path: str | None,
        val_path: str | None = None,
        columns: Mapping[str, str] | None = None,
        held_out: float = 0.1,
        limit: int | None = None,
        max_prompt_tokens: int = 64,
        max_response_tokens: int = 48,
    ):
        super().__init__(
            name=name, max_prompt_tokens=max_prompt_tokens, max_response_tokens=max_response_tokens
        )
        if not path:
            raise DataError("data.path is missing: give the file of pairs, data.path=pairs.jsonl")
        if not 0 < held_out < 1:
            raise DataError(f"data.held_out={held_out}: must lie between 0 and 1")
        if limit is not None and limit < 2:
            raise DataError(f"data.limit={limit}: must be at least 2, or null for all rows")
        unknown = set(columns or {}) - set(COLUMNS)
        if unknown:
            raise DataError(
                f"data.columns.{min(unknown)}: no such column; those that can be mapped are"
                f" {', '.join(COLUMNS)}"
            )
        self.path = Path(path)
        self.val_path = Path(val_path) if val_path else None
        self.columns = {c: (columns or {}).get(c) or c for c in COLUMNS}
        self.held_out = held_out
        self.limit = limit
        self._splits = self._read()

    def comparisons(self, split: Split) -> list[Preference]:
        return self._splits[split]

    def identity(self) -> dict[str, Any]:
        return {
            "source": "files",
            "sha256": _sha256(self.path),
            "val_sha256": _sha256(self.val_path) if self.val_path else None,
            "columns": self.columns,
            "held_out": self.held_out,
            "limit": self.limit,
        }

    def _read(self) -> dict[str, list[Preference]]:
        pairs = self._pairs(self.path)
        if self.val_path:
            splits = {"train": pairs, "val": self._pairs(self.val_path)}
            seen = {p.prompt for p in splits["val"]}
            splits["train"] = [p for p in pairs if p.prompt not in seen]
            self.counts["prompt also in val_path"] = len(pairs) - len(splits["train"])
        else:
            held_out = self._held_out_prompts(pairs)
            splits = {
                "train": [p for p in pairs if p.prompt not in held_out],
                "val": [p for p in pairs if p.prompt in held_out],
            }
        for split, rows in splits.items():
            if not rows:
                raise DataError(f"{self.path}: no pairs for {split}; {self._remedy()}")
        return splits

    def _remedy(self) -> str:
        if self.val_path:
            return f"every prompt in it is also in data.val_path={self.val_path}"
        if self.limit:
            return f"data.limit={self.limit} leaves pairs of one prompt only; raise it"
        return "the split is by prompt, so the file must hold at least two different prompts"

    def _held_out_prompts(self, pairs: list[Preference]) -> set[Prompt]:
        """The prompts whose hash is smallest: the same ones whatever the order of the rows."""
        prompts = sorted({p.prompt for p in pairs}, key=_hash)
        count = max(1, min(round(self.held_out * len(prompts)), len(prompts) - 1))
        return set(prompts[:count])

    def _pairs(self, path: Path) -> list[Preference]:
        pairs = []
        for where, row in _rows(path):
            self.counts["rows"] += 1
            pair = self._pair(row, where)
            reason = _why_left_out(pair)
            if reason:
                self.counts[reason] += 1
                continue
            pairs.append(pair)
            if len(pairs) == self.limit:
                break
        if not pairs:
            raise DataError(f"{path}: no preference pairs in it{_listed(self.counts)}")
        return pairs

    def _pair(self, row: Any, where: str) -> Preference:
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: a row must be an object with named fields, not {row!r:.60}")
        values = {}
        for column, field in self.columns.items():
            if field in row:
                values[column] = row[field]
            elif column != "prompt" or field != "prompt":
                raise DataError(
                    f"{where}: no column {field!r}; it has {', '.join(map(repr, row))}."
                    f" Name the right one with data.columns.{column}=<name>"
                )
        for column, value in values.items():
            _check_value(value, f"{where}, column {self.columns[column]!r}")
        if "prompt" in values:
            return _from_prompt(values, where)
        return _from_shared_prefix(values, where)


def _why_left_out(pair: Preference) -> str | None:
    """Real collections have rows that say nothing; they are counted, not errors."""
    texts = (pair.prompt.messages[-1].content, pair.chosen, pair.rejected)
    if not all(text.strip() for text in texts):
        return "empty"
    return "identical" if pair.chosen == pair.rejected else None


def _check_value(value: Any, where: str) -> None:
    """Raise unless `value` is text or chat messages."""
    if isinstance(value, str):
        return
    is_chat = isinstance(value, list) and all(
        isinstance(m, Mapping)
        and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in value
    )
    if not is_chat:
        raise DataError(
            f"{where}: must be text or a list of messages with 'role' and 'content',"
            f" not {value!r:.60}"
        )
    if not value:
        raise DataError(f"{where}: has no messages")


def _messages(value: list) -> tuple[Message, ...]:
    return tuple(Message(m["role"], m["content"]) for m in value)


def _prompt(messages: tuple[Message, ...], where: str) -> Prompt:
    unknown = {m.role for m in messages} - set(ROLES)
    if unknown:
        raise DataError(f"{where}: role {min(unknown)!r} is none of {', '.join(ROLES)}")
    if messages[-1].role != "user":
        raise DataError(f"{where}: the last message before an answer must be the user's")
    return Prompt(messages)


def _from_prompt(values: dict[str, Any], where: str) -> Preference:
    value = values["prompt"]
    messages = (Message("user", value),) if isinstance(value, str) else _messages(value)
    prompt = _prompt(messages, f"{where}, prompt")
    for answer in (values["chosen"], values["rejected"]):
        if not isinstance(answer, str) and _messages(answer[:-1]) not in ((), messages):
            raise DataError(f"{where}: an answer repeats other messages than its prompt's")
    return Preference(prompt, *(_answer(values[c], f"{where}, {c}") for c in COLUMNS[1:]))


def _answer(value: str | list, where: str) -> str:
    """The text of the last assistant turn; messages before it repeat the prompt."""
    if isinstance(value, str):
        return value
    if value[-1]["role"] != "assistant":
        raise DataError(f"{where}: the last message of an answer must be the assistant's")
    return value[-1]["content"]


def _from_shared_prefix(values: dict[str, Any], where: str) -> Preference:
    chosen, rejected = values["chosen"], values["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _from_transcripts(chosen, rejected, where)
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise DataError(f"{where}: one answer is text and the other messages")
    context = _messages(chosen[:-1])
    if not context or context != _messages(rejected[:-1]):
        raise DataError(
            f"{where}: without a 'prompt' the two conversations must be equal up to the last turn"
        )
    prompt = _prompt(context, where)
    return Preference(prompt, _answer(chosen, where), _answer(rejected, where))


def _from_transcripts(chosen: str, rejected: str, where: str) -> Preference:
    """Split two transcripts at the last assistant turn that begins in their common prefix."""
    shared = 0
    while chosen[shared : shared + 1] == rejected[shared : shared + 1] != "":
        shared += 1
    cut = chosen.rfind(ASSISTANT, 0, shared)
    if cut < 0 or not chosen.startswith("\n\nHuman:"):
        raise DataError(
            f"{where}: no column 'prompt', and the answers are no transcripts"
            ' "\\n\\nHuman: ...\\n\\nAssistant: ..." that share a beginning.'
            " Name the prompt's column with data.columns.prompt=<name>"
        )
    head, start = chosen[:cut], cut + len(ASSISTANT)
    pieces = TURN.split(head)[1:]  # role, content, role, content, ...
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = tuple(
        Message(roles[role], content.strip())
        for role, content in zip(pieces[::2], pieces[1::2], strict=True)
    )
    return Preference(Prompt(turns), chosen[start:].strip(), rejected[start:].strip())


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file, each with its place for error messages."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        yield from _jsonl_rows(path)
    elif name.endswith(".csv"):
        yield from _csv_rows(path)
    elif name.endswith(".parquet"):
        yield from _parquet_rows(path)
    else:
        raise DataError(f"{path}: cannot read this kind of file; it must be one of {READABLE}")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}, line {number}", json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {number}: not UTF-8 text ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: cannot be read ({error})") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # Model answers exceed the standard limit of 128 KiB a field.
    csv.field_size_limit(2**31 - 1)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: not as many fields as the header has")
                yield where, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a valid Parquet file ({error})") from error


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{n} {what}' for what, n in counts.items())})" if counts else ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(prompt: Prompt) -> str:
    return hashlib.sha256(repr(prompt.messages).encode()).hexdigest()
