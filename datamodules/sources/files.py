"""Pairs, rankings and thumbs from your own files: JSON (also .gz), CSV and Parquet.

Rows are `prompt`, `chosen`, `rejected` and, if known, a `strength`; or `prompt`, `responses` and
their `ratings` (without ratings: best first); or `prompt`, `response` and a `label`, true where
people liked it; or a `prompt` alone, which only asks; beside them perhaps a `system` message. Texts
are text or chat messages ({"role", "content"}), where the responses may repeat the prompt's
messages (as the public sets do); or, without a prompt, conversations that share a beginning, or two
transcripts "\\n\\nHuman: ...\\n\\nAssistant: ..." (as HH-RLHF has them).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from datamodules.records import Comparison, DataError, Feedback, Prompt, Thumb
from datamodules.sources.cleaning import (
    EMPTY,
    TOLD,
    TRANSCRIPTS,
    agreement,
    agreement_of_thumbs,
    cleaned,
    why_no_thumb,
)
from datamodules.sources.lessons import ASKED, COLUMNS, THUMB, Asked, Lesson, RowReader
from datamodules.sources.mending import mend
from datamodules.sources.ratings import are_ranks, require_best
from datamodules.sources.reading.forms import in_our_form
from datamodules.sources.reading.several import digests, files_of, named, rows_of_all
from datamodules.sources.source import Source, Split
from datamodules.sources.splits import held_out_prompts, require_limit, require_share

MOST_NAMES = 12  # of columns that are not read, on the terminal
OF_THUMBS = (*THUMB, "label")  # columns
NEARLY = 0.9  # share of the rows that look like ranks, above which the file may hold ranks


class Files(Source):
    """Files of pairs or rankings, and of thumbs, split by prompt, or with others as the held-out
    set.
    """

    option = "data.path"  # that names the files

    def __init__(
        self,
        *,
        name: str = "files",
        path: str | Sequence[str] | None,
        val_path: str | Sequence[str] | None = None,
        columns: Mapping[str, str | int] | None = None,
        best: str | None = None,
        held_out: float = 0.1,
        limit: int | None = None,
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
        if not path:
            raise DataError(
                f"{self.option} is missing: give a file of pairs, {self.option}=pairs.jsonl"
            )
        require_share(held_out)
        require_limit(limit)
        require_best(best)
        unknown = set(columns or {}) - set(COLUMNS)
        if unknown:
            raise DataError(
                f"data.columns.{min(unknown)}: no such column; those that can be mapped are"
                f" {', '.join(COLUMNS)}"
            )
        self.files = files_of(self.option, path)
        self.val_files = files_of("data.val_path", val_path) if val_path else []
        self.columns = {c: _name(columns or {}, c) for c in COLUMNS}
        self.best = best
        self.held_out = held_out
        self.limit = limit
        self.places: dict[Prompt, str] = {}
        self._unread: Counter[str] = Counter()
        self._ranks: list[bool] = []  # of each row with ratings, whether they look like ranks
        self._against: Counter[str] = Counter()  # rows by what rates the rejected response higher
        self._splits = self._read()
        self._note()
        for split in self._splits:
            self.counts.update(agreement(self.comparisons(split)))
            self.counts.update(agreement_of_thumbs(self.thumbs(split)))

    def comparisons(self, split: Split) -> list[Comparison]:
        return [told for told in self._splits[split] if not isinstance(told, Thumb | Asked)]

    def thumbs(self, split: Split) -> list[Thumb]:
        return [told for told in self._splits[split] if isinstance(told, Thumb)]

    def prompts(self, split: Split) -> list[Prompt]:
        return list(dict.fromkeys(row.prompt for row in self._splits[split]))

    def identity(self) -> dict[str, Any]:
        return {
            "source": "files",
            "sha256": digests(self.files),
            "val_sha256": digests(self.val_files),
            # Runs from before there were thumbs have no names of their columns.
            "columns": {c: n for c, n in self.columns.items() if c not in OF_THUMBS or n != c},
            "best": self.best or "highest",
            "held_out": self.held_out,
            "limit": self.limit,
        }

    def refuse(self, refused: Mapping[Prompt, str]) -> NoReturn:
        """DataError that names the first row whose prompt is `refused`, with the reason."""
        prompt, reason = next(iter(refused.items()))
        raise DataError(f"{self.places[prompt]}: {reason}")

    def _read(self) -> dict[str, list[Feedback | Asked]]:
        rows = self._feedback(self.files)
        if self.val_files:
            splits = {"train": rows, "val": self._feedback(self.val_files)}
            seen = {c.prompt for c in splits["val"]}
            splits["train"] = [c for c in rows if c.prompt not in seen]
            self.counts["prompt also in val_path"] = len(rows) - len(splits["train"])
        else:
            held_out = held_out_prompts((c.prompt for c in rows), self.held_out)
            splits = {
                "train": [c for c in rows if c.prompt not in held_out],
                "val": [c for c in rows if c.prompt in held_out],
            }
        for split, of_split in splits.items():
            if not of_split:
                raise DataError(
                    f"{named(self.files)}: no comparisons for {split}; {self._remedy()}"
                )
        return splits

    def _remedy(self) -> str:
        if self.val_files:
            return f"every prompt in it is also in data.val_path ({named(self.val_files)})"
        if self.limit:
            return f"data.limit={self.limit} leaves rows of one prompt only; raise it"
        return "the split is by prompt, so the file must hold at least two different prompts"

    def _feedback(self, files: Sequence[Path]) -> list[Feedback | Asked]:
        reader = RowReader(self.columns, self.best, self._unread)
        lessons = self._lessons(files, reader)
        mend(lessons, self.counts)
        lessons = [lesson for lesson in lessons if self._keeps(lesson)]
        if not lessons:
            raise DataError(f"{named(files)}: no comparisons in it{_listed(self.counts)}")
        if transcripts := sum(lesson.told.was_transcript for lesson in lessons):
            self.counts[TRANSCRIPTS] += transcripts
        if dialogues := sum(lesson.told.tells_dialogue for lesson in lessons):
            self.counts[TOLD] += dialogues
        self._ranks += [are_ranks(x.given) for x in lessons if x.given is not None]
        self._against.update(lesson.against for lesson in lessons if lesson.against)
        for lesson in lessons:
            self.places.setdefault(lesson.prompt, lesson.where)
        return [lesson.feedback() for lesson in lessons]

    def _lessons(self, files: Sequence[Path], reader: RowReader) -> list[Lesson]:
        """What the rows teach that say anything, at most as many as the limit."""
        lessons: list[Lesson] = []
        for where, row in in_our_form(rows_of_all(files), self.columns):
            self.counts["rows"] += 1
            lesson = reader.lesson(row, where)
            if self._keeps(lesson):
                lessons.append(lesson)
            if len(lessons) == self.limit:
                break
        return lessons

    def _keeps(self, lesson: Lesson) -> bool:
        """Leave only distinct responses with words; where that leaves nothing to learn, the row is
        counted with the reason.
        """
        question = lesson.prompt.messages[-1].content
        if lesson.kind == THUMB:
            reason = why_no_thumb(question, lesson.responses[0], lesson.ratings[0])
        elif lesson.kind == ASKED:
            reason = EMPTY * (not question.strip())
        else:
            lesson.responses, lesson.ratings, reason = cleaned(
                question, lesson.responses, lesson.ratings
            )
        if reason:
            self.counts[reason] += 1
        return not reason

    def _note(self) -> None:
        """What the user should know of how the files are read."""
        if unread := sorted(self._unread):
            names = ", ".join(map(repr, unread[:MOST_NAMES]))
            more = f" and {len(unread) - MOST_NAMES} more" if len(unread) > MOST_NAMES else ""
            self.notes.append(f"not read, {len(unread)} in all: {names}{more}")
        if self.best == "lowest" and not self._ranks:
            raise DataError(
                f"data.best=lowest: {named(self.files)} has no ratings; of pairs the chosen"
                " response is the best, and responses without ratings are best first"
            )
        if self.best is None and self._ranks and sum(self._ranks) >= NEARLY * len(self._ranks):
            self.cautions.append(
                "the ratings look like ranks, and the highest number is taken as the best; if the"
                " lowest is the best, set data.best=lowest (data.best=highest: all is right)"
            )
        for names, rows in self._against.items():
            self.cautions.append(
                f"in {rows} rows {names} say that the rejected response is the better one; the"
                " chosen one is taught as it stands"
            )


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{n} {what}' for what, n in counts.items())})" if counts else ""


def _name(columns: Mapping[str, str | int], column: str) -> str:
    """What the file calls a column; 0 is a name too."""
    name = columns.get(column)
    if isinstance(name, bool | float):
        raise DataError(f"data.columns.{column}={name}: must be a name; write it in quotes")
    return column if name in (None, "") else str(name)
