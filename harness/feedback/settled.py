"""What responses are worth once asking has ended: it stays, whatever is said of them later.

A run that goes on after a kill takes the scores that it had, so it repeats itself to the bit.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.errors import DiskError

FILE = "scores.sqlite"
WAIT = 30.0  # seconds for another process


class Settled:
    """Scores by the ids of items, in a file that several processes may have open."""

    def __init__(self, path: Path):
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=WAIT)
            with self._connection as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS scores (item TEXT PRIMARY KEY, score REAL)"
                )
        except (OSError, sqlite3.Error) as error:
            raise DiskError(f"{path}: cannot be read or written ({error})") from error

    def scores(self, items: Iterable[str] | None = None) -> dict[str, float | None]:
        """Of those that are settled: the score, or None where nobody said anything in time."""
        rows = dict(self._connection.execute("SELECT item, score FROM scores").fetchall())
        return rows if items is None else {item: rows[item] for item in items if item in rows}

    def settle(self, scores: Mapping[str, float | None]) -> dict[str, float | None]:
        """Keep scores, and return those that hold: what was settled before stays."""
        with self._connection as connection:
            connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", scores.items())
        return self.scores(scores)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
