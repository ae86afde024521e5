"""Preference pairs and rankings from your own files: JSON (also .gz), CSV and Parquet.

Rows are `prompt`, `chosen`, `rejected` and, if known, a `strength`; or `prompt`, `responses` and
their `ratings` (without ratings: best first). Texts are text or chat messages ({"role",
"content"}), where the responses may repeat the prompt's messages (as the public sets do); or,
without a prompt, conversations that share a beginning, or two transcripts "\\n\\nHuman:
...\\n\\nAssistant: ..." (as HH-RLHF has them).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import Comparison, DataError, Preference, Prompt, Ranking
from datamodules.sources.chats import check_chat, from_prompt, from_shared_beginning
from datamodules.sources.cleaning import cleaned
from datamodules.sources.reading.forms import in_our_form
from datamodules.sources.reading.several import digests, files_of, named, rows_of_all
from datamodules.sources.source import Source, Split
from datamodules.sources.splits import held_out_prompts, require_limit, require_share

PAIR = ("chosen", "rejected")
COLUMNS = ("prompt", *PAIR, "strength", "responses", "ratings")


class Files(Source):
    """Files of pairs or rankings, split by prompt, or with others as the held-out set."""

    def __init__(
        self,
        *,
        name: str = "files",
        path: str | Sequence[str] | None,
        val_path: str | Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        held_out: float = 0.1,
        limit: int | None = None,
        max_prompt_tokens: int = 64,
        max_response_tokens: int = 48,
        too_long: str = "cut",
    ):
        super().__init__(
            name=name,
            max_prompt_tokens=max_prompt_tokens,
            max_response_tokens=max_response_tokens,
            too_long=too_long,
        )
        if not path:
            raise DataError("data.path is missing: give the file of pairs, data.path=pairs.jsonl")
        require_share(held_out)
        require_limit(limit)
        unknown = set(columns or {}) - set(COLUMNS)
        if unknown:
            raise DataError(
                f"data.columns.{min(unknown)}: no such column; those that can be mapped are"
                f" {', '.join(COLUMNS)}"
            )
        self.files = files_of("data.path", path)
        self.val_files = files_of("data.val_path", val_path) if val_path else []
        self.columns = {c: _name(c, (columns or {}).get(c)) for c in COLUMNS}
        self.held_out = held_out
        self.limit = limit
        self._splits = self._read()

    def comparisons(self, split: Split) -> list[Comparison]:
        return self._splits[split]

    def identity(self) -> dict[str, Any]:
        return {
            "source": "files",
            "sha256": digests(self.files),
            "val_sha256": digests(self.val_files),
            "columns": self.columns,
            "held_out": self.held_out,
            "limit": self.limit,
        }

    def _read(self) -> dict[str, list[Comparison]]:
        rows = self._comparisons(self.files)
        if self.val_files:
            splits = {"train": rows, "val": self._comparisons(self.val_files)}
            seen = {c.prompt for c in splits["val"]}
            splits["train"] = [c for c in rows if c.prompt not in seen]
            self.counts["prompt also in val_path"] = len(rows) - len(splits["train"])
        else:
            held_out = held_out_prompts((c.prompt for c in rows), self.held_out)
            splits = {
                "train": [c for c in rows if c.prompt not in held_out],
                "val": [c for c in rows if c.prompt in held_out],
            }
        for split, comparisons in splits.items():
            if not comparisons:
                raise DataError(f"{named(self.files)}: no comparisons for {split}; {self._remedy()}")
        return splits

    def _remedy(self) -> str:
        if self.val_files:
            return f"every prompt in it is also in data.val_path ({named(self.val_files)})"
        if self.limit:
            return f"data.limit={self.limit} leaves rows of one prompt only; raise it"
        return "the split is by prompt, so the file must hold at least two different prompts"

    def _comparisons(self, files: Sequence[Path]) -> list[Comparison]:
        comparisons: list[Comparison] = []
        kind = None
        for where, row in in_our_form(rows_of_all(files), self.columns):
            self.counts["rows"] += 1
            columns = self._columns_of(row, where)
            if kind not in (None, columns):
                raise DataError(
                    f"{where}: has {' and '.join(columns)}, but the rows before it have"
                    f" {' and '.join(kind)}; keep pairs and rankings in files of their own"
                )
            kind = columns
            prompt, responses, ratings = self._parsed(row, columns, where)
            responses, ratings, reason = cleaned(prompt.messages[-1].content, responses, ratings)
            if reason:
                self.counts[reason] += 1
                continue
            if columns == PAIR:
                comparisons.append(
                    Preference(prompt, *responses, strength=self._strength(row, where))
                )
            else:
                comparisons.append(Ranking(prompt, tuple(responses), tuple(ratings)))
            if len(comparisons) == self.limit:
                break
        if not comparisons:
            raise DataError(f"{named(files)}: no comparisons in it{_listed(self.counts)}")
        return comparisons

    def _columns_of(self, row: Any, where: str) -> tuple[str, ...]:
        """The columns that hold a row's responses: those of a pair, or of a ranking."""
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: a row must be an object with named fields, not {row!r:.60}")
        missing = [c for c in PAIR if self.columns[c] not in row]
        named = self.columns["responses"] != "responses"
        if self.columns["responses"] in row and (missing or named):
            return ("responses",)
        if named:
            missing = ["responses"]
        if missing:
            raise DataError(
                f"{where}: no column {self.columns[missing[0]]!r};"
                f" it has {', '.join(map(repr, row))}."
                f" Name the right one with data.columns.{missing[0]}=<name>"
            )
        return PAIR

    def _parsed(
        self, row: Mapping, columns: tuple[str, ...], where: str
    ) -> tuple[Prompt, list[str], list[float]]:
        prompt = self._optional(row, "prompt", where)
        if columns == PAIR:
            responses = [row[self.columns[c]] for c in PAIR]
            places = [f"{where}, column {self.columns[c]!r}" for c in PAIR]
            ratings = [1.0, 0.0]
        else:
            responses, ratings = self._ranked(row, where)
            place = f"{where}, column {self.columns['responses']!r}"
            places = [f"{place}, number {i}" for i in range(1, len(responses) + 1)]
        for response, place in zip(responses, places, strict=True):
            check_chat(response, place)
        if prompt is None and self.columns["prompt"] not in row:
            return *from_shared_beginning(responses, where), ratings
        check_chat(prompt, f"{where}, column {self.columns['prompt']!r}")
        return *from_prompt(prompt, responses, where), ratings

    def _ranked(self, row: Mapping, where: str) -> tuple[list, list[float]]:
        responses, ratings = row[self.columns["responses"]], self._optional(row, "ratings", where)
        if not isinstance(responses, list) or len(responses) < 2:
            raise DataError(
                f"{where}, column {self.columns['responses']!r}: must be a list of at least two"
                f" responses, not {responses!r:.60}"
            )
        if ratings is None:
            return responses, [float(i) for i in reversed(range(len(responses)))]
        if not isinstance(ratings, list) or len(ratings) != len(responses):
            raise DataError(
                f"{where}, column {self.columns['ratings']!r}: must be a list of"
                f" {len(responses)} numbers, one for each response, not {ratings!r:.60}"
            )
        place = f"{where}, column {self.columns['ratings']!r}"
        return responses, [_number(rating, place) for rating in ratings]

    def _strength(self, row: Mapping, where: str) -> float | None:
        value = self._optional(row, "strength", where)
        if value in (None, ""):  # of a CSV, a field without a value
            return None
        place = f"{where}, column {self.columns['strength']!r}"
        strength = _number(value, place)
        if strength < 0:
            raise DataError(
                f"{place}: {value} says that the rejected response is better; swap the two"
            )
        return strength

    def _optional(self, row: Mapping, column: str, where: str) -> Any:
        """The value of a column that may be absent, unless it was given a name."""
        field = self.columns[column]
        if field not in row and field != column:
            raise DataError(
                f"{where}: no column {field!r}; it has {', '.join(map(repr, row))}."
                f" Name the right one with data.columns.{column}=<name>"
            )
        return row.get(field)


def _name(column: str, given: Any) -> str:
    """What the file calls a column; a number (`prompt: 0` in YAML) is a name too."""
    if given is None or given == "":
        return column
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise DataError(f"data.columns.{column}={given}: must be a name; write it in quotes")
    return str(given)


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: must be a number, not {value!r:.60}")
    return number


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{n} {what}' for what, n in counts.items())})" if counts else ""
