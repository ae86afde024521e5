"""What a row of your own files teaches: a prompt, its responses, and how good they are."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from datamodules.records import DataError, Feedback, Preference, Prompt, Ranking, Thumb
from datamodules.sources.chats import Chat, Told, from_prompt, from_shared_beginning, read_chat
from datamodules.sources.judgements import rates_rejected_higher, require_best_first
from datamodules.sources.messages import unread_keys
from datamodules.sources.ratings import (
    OPEN_WORDS,
    as_number,
    liked,
    number,
    oriented,
    strength,
    words,
)
from datamodules.sources.reading.columns import no_column

# The columns that hold a row's responses, by what it teaches.
PAIR = ("chosen", "rejected")
RANKING = ("responses",)
THUMB = ("response",)
# A prompt alone, which is to be answered; what may stand beside it, as task=generate writes it.
ASKED = ("prompt",)
BESIDE = {"id", "answers"}
# What is said of them there.
SAID = {PAIR: "strength", RANKING: "ratings", THUMB: "label", ASKED: "prompt"}
COLUMNS = ("prompt", *PAIR, "strength", "responses", "ratings", *THUMB, "label", "system")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of which the file says no more."""

    prompt: Prompt


@dataclass
class Lesson:
    """A row as it will be taught.

    `repeatable` is the prompt's text as the file has it, if it is text: responses may begin with
    it. `ratings` have the best one highest, `given` are those of the file, if it has any; that of a
    thumb is 1 for one up, 0 for one down, NaN where nobody gave one.
    """

    where: str
    told: Told
    repeatable: str | None
    responses: list[str]
    ratings: list[float]
    given: list[float] | None
    strength: float | None
    kind: tuple[str, ...]
    against: str = ""

    @property
    def prompt(self) -> Prompt:
        return self.told.prompt

    def feedback(self) -> Feedback | Asked:
        if self.kind == ASKED:
            return Asked(self.prompt)
        if self.kind == THUMB:
            return Thumb(self.prompt, self.responses[0], liked=self.ratings[0] == 1)
        if self.kind == PAIR:
            return Preference(self.prompt, *self.responses, strength=self.strength)
        return Ranking(self.prompt, tuple(self.responses), tuple(self.ratings))


class RowReader:
    """Reads the rows of one file. `columns` are the file's names for ours; `best` says which rating
    is the best. `unread` counts the rows that have a column which is not read.
    """

    def __init__(self, columns: Mapping[str, str], best: str | None, unread: Counter[str]):
        self.columns = columns
        self.best = best
        self.unread = unread
        self._kind: tuple[str, ...] | None = None  # of the comparisons so far
        self._down: float | None = None  # the number by which thumbs have been down so far

    def lesson(self, row: Any, where: str) -> Lesson:
        """What a row teaches; DataError with its place and what is wrong in it."""
        columns = self._columns_of(row, where)
        if columns != THUMB and self._kind not in (None, columns):
            raise DataError(
                f"{where}: has {' and '.join(columns)}, but the rows before it have"
                f" {' and '.join(self._kind)}; keep pairs and rankings in files of their own"
            )
        self._kind = self._kind if columns == THUMB else columns
        told, repeatable, ratings, given = self._parsed(row, columns, where)
        known = self._strength(row, where) if columns == PAIR else None
        if known == 0:
            ratings = [0.0, 0.0]  # neither is better
        self._note_unread(row, columns)
        return Lesson(
            where=where,
            told=told,
            repeatable=repeatable,
            responses=told.responses,
            ratings=ratings,
            given=given,
            strength=known,
            kind=columns,
            against=self._against(row) if columns == PAIR else "",
        )

    def _columns_of(self, row: Any, where: str) -> tuple[str, ...]:
        """The columns that hold a row's responses: those of a pair, of a ranking, or of a thumb."""
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: a row must be an object with named fields, not {row!r:.60}")
        if self._is_thumb(row):
            return THUMB
        missing = [c for c in PAIR if self.columns[c] not in row]
        named = self.columns["responses"] != "responses"
        if self.columns["responses"] in row and (missing or named):
            return RANKING
        if named:
            missing = ["responses"]
        if missing and self._kind in (None, ASKED) and self._is_asked(row):
            return ASKED
        if missing:
            others_have_it = self._kind is not None
            raise DataError(no_column(missing[0], row, self.columns, where, others_have_it))
        return PAIR

    def _is_asked(self, row: Mapping) -> bool:
        """Whether a row has a prompt, and at most what has no names of other people's choice."""
        own = {self.columns["prompt"], self.columns["system"], *BESIDE}
        answers = row.get("answers") or []
        written = isinstance(answers, list) and all(
            isinstance(each, Mapping) and {"text", "policy"} <= each.keys() for each in answers
        )
        others = {name for name, value in row.items() if name not in own and _says(value)}
        return self.columns["prompt"] in row and written and not others

    def _is_thumb(self, row: Mapping) -> bool:
        """Whether a row has one response and what was said of it, and no others. (Tables have the
        columns of other rows too, empty.)
        """
        if any(self.columns[column] not in row for column in (*THUMB, "label")):
            return False
        return not any(_says(row.get(self.columns[column])) for column in (*PAIR, *RANKING))

    def _parsed(
        self, row: Mapping, columns: tuple[str, ...], where: str
    ) -> tuple[Told, str | None, list[float], list[float] | None]:
        prompt = self._optional(row, "prompt", where)
        given = None
        if columns == PAIR:
            responses = [row[self.columns[c]] for c in PAIR]
            places = [self._place(c, where) for c in PAIR]
            ratings = [1.0, 0.0]
        elif columns == THUMB:
            responses, places = [row[self.columns["response"]]], [self._place("response", where)]
            ratings = [self._thumb(row, where)]
        elif columns == ASKED:
            responses, places, ratings = [], [], []
        else:
            responses, given = self._ranked(row, where)
            place = self._place("responses", where)
            places = [f"{place}, number {i}" for i in range(1, len(responses) + 1)]
            best_first = [float(i) for i in reversed(range(len(responses)))]
            ratings = best_first if given is None else oriented(given, self.best)
        chats = [read_chat(*pair) for pair in zip(responses, places, strict=True)]
        system = self._system(row, where)
        if prompt is None and self.columns["prompt"] not in row:
            no_prompt = partial(no_column, "prompt", row, self.columns, where)
            return from_shared_beginning(chats, where, no_prompt, system), None, ratings, given
        chat = read_chat(prompt, self._place("prompt", where))
        told = from_prompt(chat, chats, where, system)
        return told, _repeatable(chat), ratings, given

    def _thumb(self, row: Mapping, where: str) -> float:
        value, place = row[self.columns["label"]], self._place("label", where)
        if (up := liked(value, place)) is None:
            return math.nan
        if not up and (down := as_number(value)) is not None:
            if self._down not in (None, down):
                raise DataError(
                    f"{place}: is {value!r:.60}, where rows before it have {self._down:g}; which of"
                    " 0 and -1 is a thumb down? Write true and false, and null where there is none"
                )
            self._down = down
        return float(up)

    def _ranked(self, row: Mapping, where: str) -> tuple[list, list[float] | None]:
        responses, ratings = row[self.columns["responses"]], self._optional(row, "ratings", where)
        if not isinstance(responses, list) or len(responses) < 2:
            raise DataError(
                f"{self._place('responses', where)}: must be a list of at least two"
                f" responses, not {responses!r:.60}"
            )
        if ratings is None:
            require_best_first(row, responses, self.columns, where)
            return responses, None
        place = self._place("ratings", where)
        if not isinstance(ratings, list) or len(ratings) != len(responses):
            raise DataError(
                f"{place}: must be a list of {len(responses)} numbers, one for each response,"
                f" not {ratings!r:.60}"
            )
        if self.best is None and OPEN_WORDS & words(self.columns["ratings"]):
            raise DataError(
                f"{place}: say which of these numbers is the best with data.best=lowest (1 is"
                " better than 2) or data.best=highest"
            )
        return responses, [number(rating, place) for rating in ratings]

    def _strength(self, row: Mapping, where: str) -> float | None:
        return strength(self._optional(row, "strength", where), self._place("strength", where))

    def _against(self, row: Mapping) -> str:
        return rates_rejected_higher(row, *(self.columns[c] for c in PAIR))

    def _system(self, row: Mapping, where: str) -> str | None:
        """The text of the system turn that belongs before the prompt; None if there is none."""
        value = self._optional(row, "system", where)
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            raise DataError(
                f"{self._place('system', where)}: must be the text of a system message, not"
                f" {value!r:.60}"
            )
        return value

    def _note_unread(self, row: Mapping, columns: tuple[str, ...]) -> None:
        read = {self.columns[c] for c in ("prompt", "system", *columns)}
        read |= BESIDE if columns == ASKED else set()
        read.add(self.columns[SAID[columns]])
        self.unread.update(
            str(name) for name, value in row.items() if name not in read and _says(value)
        )
        chats = [row.get(self.columns[c]) for c in ("prompt", *PAIR, *THUMB)]
        responses = row.get(self.columns["responses"])
        chats += responses if isinstance(responses, list) else []
        self.unread.update({f"{key} (of messages)" for chat in chats for key in unread_keys(chat)})

    def _place(self, column: str, where: str) -> str:
        return f"{where}, column {self.columns[column]!r}"

    def _optional(self, row: Mapping, column: str, where: str) -> Any:
        """The value of a column that may be absent, unless it was given a name."""
        field = self.columns[column]
        if field not in row and field != column:
            raise DataError(no_column(column, row, self.columns, where))
        return row.get(field)


def _repeatable(prompt: Chat) -> str | None:
    """The text that responses may begin with once more: of messages, a single one of the user."""
    if isinstance(prompt, str):
        return prompt
    spoken = [m for m in prompt if m.role != "system"]
    return spoken[0].content if len(spoken) == 1 else None


def _says(value: Any) -> bool:
    """Whether a row has something in a column: tables fill those of other rows up."""
    return value is not None and value != "" and value != []
