"""The base of public preference sets: from the Hugging Face hub, or from a local copy.

A subclass says where the set is published, what its splits are called, and how a row becomes a
normalised one: a prompt, its responses, their ratings, and why it is left out, if it is.
"""

import functools
import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset, IterableDataset

from datamodules.records import Comparison, DataError, Message, Preference, Prompt, Ranking
from datamodules.sources.cleaning import CUT_TURNS, MALFORMED, REFUSED, agreement
from datamodules.sources.public.normalising import (
    BLANK,
    FEATURES,
    Reader,
    Row,
    code_version,
    normalise_row,
    parsed,
)
from datamodules.sources.public.repository import (
    Part,
    Published,
    damage_of,
    hub_copy,
    local_copy,
    open_parts,
)
from datamodules.sources.source import Source, Split
from datamodules.sources.splits import held_out_prompts, require_limit, require_share

SAMPLE = 100  # rows that show which schema a set has
SMALL = 2000  # rows that one process reads faster than several can start
MOST_WORKERS = 8
MAY_MATTER = {"system", "system_prompt", "input", "context", "history", "tools", "images"}


class HubSource(Source):
    """A public set of comparisons. Prompts of the held-out split are taken out of the training set.

    Pairs become Preference, three responses or more a Ranking. Rows that say nothing are left out
    and counted; a set of which no row can be read is an error.
    """

    splits: ClassVar[Mapping[str, tuple[str, ...]]]  # what the set calls ours, the best name first
    rated: ClassVar[bool]  # whether differences of ratings mean anything
    expected: ClassVar[str]  # the schema, for error messages

    def __init__(
        self,
        published: Published,
        *,
        name: str,
        path: str | None = None,
        revision: str | None = None,
        held_out: float = 0.1,
        limit: int | None = None,
        streaming: bool = False,
        workers: int | None = None,
        max_prompt_tokens: int | None = None,
        max_response_tokens: int | None = None,
        too_long: str = "cut",
    ):
        super().__init__(
            name=name,
            max_prompt_tokens=max_prompt_tokens,
            max_response_tokens=max_response_tokens,
            too_long=too_long,
        )
        require_share(held_out)
        require_limit(limit)
        if workers is not None and workers < 1:
            raise DataError(f"data.workers={workers}: must be at least 1, or null")
        if path is not None and not isinstance(path, str | os.PathLike):
            raise DataError(f"data.path={path}: must be one folder or file, a copy of the set")
        if revision:
            published = Published(published.repository, revision, published.patterns)
        self.held_out = held_out
        self.limit = limit
        self.workers = workers
        self.place = str(path or published)
        copy = local_copy(Path(path)) if path else hub_copy(published, streaming)
        self._refused = hashlib.sha256()
        self._splits = self._read(open_parts(copy, self.splits, self.wants, streaming))

    @abstractmethod
    def reader(self, columns: set[str]) -> Reader | None:
        """A function, of a module, that returns `normalised` for a row with these columns.

        None if the columns are those of something else.
        """

    def wants(self, parts: tuple[str, ...]) -> bool:
        """Whether a file, by the parts of its path, is one of the set's comparisons."""
        return True

    def comparisons(self, split: Split) -> list[Comparison]:
        return self._splits[split]

    def identity(self) -> dict[str, Any]:
        refused = {"refused": self._refused.hexdigest()} if self.counts[REFUSED] else {}
        return {"source": self.name, "records": self._digest} | refused

    def refuse(self, refused: Mapping[Prompt, str]) -> None:
        """Leave out the rows with these prompts, and count them."""
        assert self._digest  # of all that was read, before anything goes
        for prompt in refused:
            self._refused.update(repr(prompt).encode())
        for split, comparisons in self._splits.items():
            kept = [c for c in comparisons if c.prompt not in refused]
            if not kept:
                reason = refused[comparisons[0].prompt]
                raise DataError(f"{self.place}: nothing is left for {split}: {reason}")
            self.counts[REFUSED] += len(comparisons) - len(kept)
            self._splits[split] = kept
        self.counts["kept"] = sum(map(len, self._splits.values()))

    @functools.cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for split, comparisons in self._splits.items():
            for comparison in comparisons:
                digest.update(f"{split} {comparison!r}\n".encode())
        return digest.hexdigest()

    def _read(self, parts: Mapping[str, Part]) -> dict[str, list[Comparison]]:
        splits: dict[str, list[Comparison]] = {"train": [], "val": []}
        for split, part in parts.items():
            for row in self._rows(part):
                if row["cut"]:
                    self.counts[CUT_TURNS] += row["cut"]
                splits[split or row["split"] or "train"].append(self._comparison(row))
        if set(parts) != set(splits) and not all(splits.values()):
            splits = self._divided(splits["train"] + splits["val"])
        else:
            seen = {c.prompt for c in splits["val"]}
            kept = [c for c in splits["train"] if c.prompt not in seen]
            self.counts["prompt also in held-out split"] = len(splits["train"]) - len(kept)
            splits["train"] = kept
        for split, comparisons in splits.items():
            if not comparisons:
                counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
                raise DataError(
                    f"{self.place}: no comparisons for {split} ({counts});"
                    " raise data.limit, or give a copy with at least two different prompts"
                )
        self.counts["kept"] = sum(map(len, splits.values()))
        for comparisons in splits.values():
            self.counts.update(agreement(comparisons))
        return splits

    def _divided(self, comparisons: list[Comparison]) -> dict[str, list[Comparison]]:
        held_out = held_out_prompts((c.prompt for c in comparisons), self.held_out)
        return {
            "train": [c for c in comparisons if c.prompt not in held_out],
            "val": [c for c in comparisons if c.prompt in held_out],
        }

    def _rows(self, part: Part) -> Iterator[dict[str, Any]]:
        """The normalised rows that are kept; the others are counted."""
        reasons: list[str] = []
        try:
            for row in self._normalised(part):
                if row["reason"] == BLANK:
                    continue
                reasons.append(row["reason"])
                if not row["reason"]:
                    yield row
        except DataError:
            raise
        except Exception as error:  # the library's own, Arrow's, of the network
            found = damage_of(part.files) or f"{self.place}: cannot be read further ({error})"
            raise DataError(found) from error
        if set(reasons) == {MALFORMED}:
            raise self._wrong_schema(parsed(next(iter(part.rows)), part.lines))
        self.counts["rows"] += len(reasons)
        self.counts.update(reason for reason in reasons if reason)

    def _normalised(self, part: Part) -> Dataset | IterableDataset:
        sample = [parsed(row, part.lines) for row in islice(part.rows, SAMPLE)]
        sample = [row for row in sample if not isinstance(row, str) or row.strip()]
        if not sample:
            raise DataError(f"{self.place}: there are no rows in it")
        columns = {column for row in sample if isinstance(row, Mapping) for column in row}
        reader = self.reader(columns)
        if not reader:
            raise self._wrong_schema(sample[0])
        self._note_unread(columns)
        rows = part.rows
        options: dict[str, Any] = {
            "fn_kwargs": {"reader": reader, "lines": part.lines, "code": code_version()},
            "remove_columns": list(next(iter(rows))),
            "features": FEATURES,
        }
        if isinstance(rows, IterableDataset):
            return (rows.take(self.limit) if self.limit else rows).map(normalise_row, **options)
        if self.limit:
            rows = rows.select(range(min(self.limit, len(rows))))
        if self._workers(len(rows)) > 1:
            options["num_proc"] = self._workers(len(rows))
        folders = {Path(file["filename"]).parent for file in rows.cache_files}
        options["keep_in_memory"] = not all(os.access(folder, os.W_OK) for folder in folders)
        return rows.map(normalise_row, desc=f"Reading {self.name}", **options)

    def _note_unread(self, columns: set[str]) -> None:
        """No public set has these: a copy that does may mean them as part of what is taught."""
        if unread := sorted(columns & MAY_MATTER):
            note = f"{self.place}: not read, {len(unread)} in all: {', '.join(map(repr, unread))}"
            self.notes = list(dict.fromkeys([*self.notes, note]))

    def _workers(self, rows: int) -> int:
        if self.workers:
            return min(self.workers, rows)
        return 1 if rows < SMALL else min(os.cpu_count() or 1, MOST_WORKERS)

    def _wrong_schema(self, row: Any) -> DataError:
        found = f"columns {', '.join(row)}: {row!r:.200}" if isinstance(row, Mapping) else repr(row)
        return DataError(
            f"{self.place}: none of its rows is one of {self.name}. Expected {self.expected};"
            f" the first row has {found}. Another format needs data=files"
        )

    def _comparison(self, row: Row) -> Comparison:
        prompt = Prompt(tuple(Message(m["role"], m["content"]) for m in row["prompt"]))
        responses, ratings = row["responses"], row["ratings"]
        if len(responses) > 2:
            return Ranking(prompt, tuple(responses), tuple(ratings))
        strength = abs(ratings[0] - ratings[1]) if self.rated else None
        if ratings[0] < ratings[1]:
            responses = responses[::-1]
        return Preference(prompt, *responses, strength=strength)
