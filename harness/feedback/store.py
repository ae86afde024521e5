"""What people have said, in one SQLite file: kept before they are asked the next thing.

A vote is on the disk when `vote` returns, and a kill loses none (a write-ahead log, synced at every
commit). Any number of threads and processes may use one file.
"""

import json
import random
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from datamodules.records import Message, Prompt
from harness.feedback.database import Database
from harness.feedback.items import SKIP, Item

FILE = "labels.sqlite"
RECENT = 600.0  # seconds within which an annotator counts as being there
PACE = 50  # votes of an annotator that tell how long one takes
# Labels that an item has or is about to have from others than :annotator.
TAKEN = """(
    (SELECT count(*) FROM votes v WHERE v.item = i.number AND v.undone IS NULL
        AND v.annotator != :annotator AND v.choice != 'skip')
    + (SELECT count(*) FROM showings s WHERE s.item = i.number AND s.annotator != :annotator
        AND s.until > :now)
)"""
HELD = """
SELECT i.* FROM showings s JOIN items i ON i.number = s.item
WHERE s.annotator = :annotator AND s.until > :now AND NOT i.retired
ORDER BY s.since DESC LIMIT 1
"""
FREE = f"""
SELECT i.* FROM items i
WHERE NOT i.retired AND {TAKEN} < :overlap AND NOT EXISTS (
    SELECT 1 FROM votes v
    WHERE v.item = i.number AND v.annotator = :annotator AND v.undone IS NULL
)
ORDER BY i.priority DESC, i.number LIMIT 1
"""

# A vote is kept, was there already, or came after others had been asked in its place.
Outcome = Literal["kept", "again", "late"]
# What was taken back is asked again, or there was nothing, or others have the item.
Undone = Literal["held", "nothing", "taken"]


@dataclass(frozen=True)
class Showing:
    """An item as an annotator sees it: `order[i]` is the number of the response in place i."""

    item: Item
    order: tuple[int, ...]

    @property
    def responses(self) -> tuple[str, ...]:
        """In the order in which they are shown."""
        return tuple(self.item.responses[number] for number in self.order)


@dataclass(frozen=True)
class Vote:
    """What an annotator said of an item: `choice` in the item's own order of responses, `order` as
    they were shown, if they were; `seconds` it took, `at` seconds since 1970.
    """

    item: str
    annotator: str
    choice: str
    order: tuple[int, ...] | None
    seconds: float | None
    at: float


@dataclass(frozen=True)
class Progress:
    """How far the labelling is: `labels` of the `wanted` ones, skips being none; `mine`, those of
    one annotator; `seconds_left` at the pace of the last minutes, where there is one.
    """

    items: int
    labels: int
    wanted: int
    mine: int
    seconds_left: float | None


class Store:
    """Items and votes in a file. `overlap` annotators are asked for each item, and no more; an item
    is held for one of them for `lease` seconds.
    """

    def __init__(self, path: Path | str, *, overlap: int = 1, lease: float = 600.0):
        self.path = Path(path)
        self.overlap = overlap
        self.lease = lease
        self._database = Database(self.path)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def add(self, items: Iterable[Item]) -> int:
        """Add the items that are not there yet, to be asked in this order; returns how many."""
        sql = """INSERT INTO items (id, kind, prompt, responses, origins, priority)
            VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING"""
        rows = [
            (i.id, i.kind, *map(json.dumps, (i.prompt.messages, i.responses, i.origins)))
            for i in items
        ]
        with self._database.transaction() as connection:
            return connection.executemany(sql, rows).rowcount

    def prioritise(self, priorities: Mapping[str, float]) -> None:
        """Ask first for the items of the highest priority, by their ids; others have 0."""
        sql = "UPDATE items SET priority = ? WHERE id = ?"
        with self._database.transaction() as connection:
            connection.executemany(sql, [(value, item) for item, value in priorities.items()])

    def retire(self, ids: Iterable[str]) -> None:
        """Ask nobody any more for these items; what was said of them stays."""
        with self._database.transaction() as connection:
            connection.executemany("UPDATE items SET retired = 1 WHERE id = ?", [(i,) for i in ids])

    def next(self, annotator: str) -> Showing | None:
        """What to ask now: the item that is held for this annotator, or else the next one, which is
        then held. None if there is nothing that others do not hold or have done.
        """
        now = time.time()
        values = {"annotator": annotator, "now": now, "overlap": self.overlap}
        with self._database.transaction() as connection:
            row = connection.execute(HELD, values).fetchone()
            row = row or connection.execute(FREE, values).fetchone()
            return self._show(connection, row, annotator, now) if row else None

    def showing(self, item: str, annotator: str) -> Showing | None:
        """An item as this annotator has seen it; None if that never was."""
        sql = """SELECT i.*, s.places FROM items i JOIN showings s ON s.item = i.number
            WHERE i.id = ? AND s.annotator = ?"""
        with self._database.reading() as connection:
            row = connection.execute(sql, (item, annotator)).fetchone()
        return Showing(_item(row), _order(row["places"])) if row else None

    def vote(self, item: str, annotator: str, choice: str, seconds: float | None = None) -> Outcome:
        """Keep what an annotator says of an item, `choice` in the item's own order.

        What was said already stays: sent again, a vote is not doubled. Raises ChoiceError for what
        cannot be said of the item, KeyError if there is none.
        """
        now = time.time()
        values = {"annotator": annotator, "now": now, "id": item}
        sql = f"""SELECT i.*, {TAKEN} AS taken, s.places, s.since, s.until > :now AS held,
                EXISTS (SELECT 1 FROM votes v WHERE v.item = i.number
                    AND v.annotator = :annotator AND v.undone IS NULL) AS done
            FROM items i LEFT JOIN showings s
                ON s.item = i.number AND s.annotator = :annotator
            WHERE i.id = :id"""
        with self._database.transaction() as connection:
            row = connection.execute(sql, values).fetchone()
            if row is None:
                raise KeyError(item)
            _item(row).check(choice)
            if row["done"]:
                return "again"
            if choice != SKIP and not row["held"] and row["taken"] >= self.overlap:
                return "late"
            if row["since"] is not None and seconds is not None:
                seconds = max(0.0, min(seconds, now - row["since"]))
            connection.execute(
                """INSERT INTO votes (item, annotator, choice, places, seconds, at)
                VALUES (?, ?, ?, ?, ?, ?)""",
                (row["number"], annotator, choice, row["places"], seconds, now),
            )
            _let_go(connection, annotator, row["number"])
        return "kept"

    def undo(self, annotator: str) -> Undone:
        """Take back what this annotator said last, and hold that item again unless others have it
        or have done it meanwhile.
        """
        now = time.time()
        last = """SELECT max(number) AS last, item FROM votes
            WHERE annotator = ? AND undone IS NULL"""
        again = f"SELECT i.*, {TAKEN} AS taken FROM items i WHERE i.number = :number"
        with self._database.transaction() as connection:
            vote = connection.execute(last, (annotator,)).fetchone()
            if vote["last"] is None:
                return "nothing"
            connection.execute("UPDATE votes SET undone = ? WHERE number = ?", (now, vote["last"]))
            values = {"annotator": annotator, "now": now, "number": vote["item"]}
            row = connection.execute(again, values).fetchone()
            if row["taken"] >= self.overlap:
                return "taken"
            _let_go(connection, annotator)
            self._show(connection, row, annotator, now)
        return "held"

    def votes(self) -> list[Vote]:
        """All that was said and not taken back, in the order in which it was."""
        sql = """SELECT v.*, i.id FROM votes v JOIN items i ON i.number = v.item
            WHERE v.undone IS NULL ORDER BY v.number"""
        with self._database.reading() as connection:
            rows = connection.execute(sql).fetchall()
        return [
            Vote(r["id"], r["annotator"], r["choice"], _order(r["places"]), r["seconds"], r["at"])
            for r in rows
        ]

    def items(self) -> dict[str, Item]:
        """All items by their ids, in the order in which they were added."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM items ORDER BY number").fetchall()
        return {row["id"]: _item(row) for row in rows}

    def progress(self, annotator: str | None = None) -> Progress:
        """How far all are and, if there is an `annotator`, that one."""
        labels = """SELECT count(*) AS items, sum(min(:overlap, (SELECT count(*) FROM votes v
                WHERE v.item = i.number AND v.undone IS NULL AND v.choice != 'skip'))) AS labels
            FROM items i WHERE NOT i.retired"""
        mine = """SELECT seconds FROM votes WHERE annotator = ? AND undone IS NULL
            AND choice != 'skip' ORDER BY number DESC"""
        there = "SELECT count(DISTINCT annotator) FROM votes WHERE at > ?"
        with self._database.reading() as connection:
            total = connection.execute(labels, {"overlap": self.overlap}).fetchone()
            own = [row["seconds"] for row in connection.execute(mine, (annotator,))]
            people = connection.execute(there, (time.time() - RECENT,)).fetchone()[0]
        done, wanted = total["labels"] or 0, total["items"] * self.overlap
        times = [seconds for seconds in own[:PACE] if seconds is not None]
        left = (wanted - done) * median(times) / max(1, people) if times else None
        return Progress(total["items"], done, wanted, len(own), left)

    def _show(
        self, connection: sqlite3.Connection, row: sqlite3.Row, annotator: str, now: float
    ) -> Showing:
        """Hold an item for an annotator, who sees its responses in one order for ever."""
        item = _item(row)
        places = random.SystemRandom().sample(item.numbers, len(item.responses))
        # While it is held its beginning stays: who reloads the page has not just begun.
        sql = """INSERT INTO showings VALUES (:item, :annotator, :places, :now, :until)
            ON CONFLICT (item, annotator) DO UPDATE SET
                since = CASE WHEN until > :now THEN since ELSE :now END, until = :until
            RETURNING places"""
        values = {"item": row["number"], "annotator": annotator, "places": json.dumps(places)}
        values |= {"now": now, "until": now + self.lease}
        kept = connection.execute(sql, values).fetchone()
        return Showing(item, _order(kept["places"]))


def _let_go(connection: sqlite3.Connection, annotator: str, number: int | None = None) -> None:
    """Hold an item, or any, no longer for an annotator."""
    sql = """UPDATE showings SET until = NULL
        WHERE annotator = :annotator AND (:number IS NULL OR item = :number)"""
    connection.execute(sql, {"annotator": annotator, "number": number})


def _item(row: sqlite3.Row) -> Item:
    prompt = Prompt(tuple(Message(*each) for each in json.loads(row["prompt"])))
    responses, origins = (tuple(json.loads(row[name])) for name in ("responses", "origins"))
    return Item(row["id"], row["kind"], prompt, responses, origins)


def _order(places: str | None) -> tuple[int, ...] | None:
    return None if places is None else tuple(json.loads(places))
