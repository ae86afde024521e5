"""Answers that were given, kept on disk: nothing is asked, or paid, twice."""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_modules.errors import OptionError

# Seconds to wait for another process that is writing.
PATIENCE = 60.0


def key_of(**shaping: Any) -> str:
    """The name of an answer: a hash of everything that shapes it."""
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """Answers by key, in a SQLite file that several processes may share.

    An answer is on the disk before it is used; the first one that is stored under a key stays, so
    that all who ask, now and later, get the same.
    """

    def __init__(self, path: str | Path):
        self.path = Path(os.path.expanduser(path))
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Each statement is a transaction. With a write-ahead log a kill loses none, and readers
            # do not wait for writers.
            self._connection = sqlite3.connect(
                self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers"
                " (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
            )

    def get(self, key: str) -> Any:
        """What was answered, None if nothing was."""
        with self._errors():
            row = self._connection.execute(
                "SELECT answer FROM answers WHERE key = ?", (key,)
            ).fetchone()
            return json.loads(row[0]) if row else None

    def put(self, key: str, answer: Any) -> Any:
        """Keep an answer; returns what is kept, which may be another process's."""
        with self._errors():
            self._connection.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, json.dumps(answer))
            )
        return self.get(key)

    def forget(self, key: str) -> None:
        """Let it be asked again."""
        with self._errors():
            self._connection.execute("DELETE FROM answers WHERE key = ?", (key,))

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise OptionError(
                f"{self.path}: answers cannot be kept in it ({error}); remove it if it is damaged,"
                " or let judge.cache (or hydra.run.dir) be in a folder of this machine that can be"
                " written"
            ) from error
