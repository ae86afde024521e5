"""The SQLite file of a store: its tables, and transactions that are on the disk when they end."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import DiskError, RunError

MARK = 0x726C6866  # "rlhf", as what SQLite calls application_id
VERSION = 1
WAIT = 30.0  # seconds for another process to end its transaction
TABLES = """
CREATE TABLE items (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, prompt TEXT NOT NULL,
    responses TEXT NOT NULL, origins TEXT NOT NULL, priority REAL NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE showings (
    item INTEGER NOT NULL REFERENCES items, annotator TEXT NOT NULL, places TEXT NOT NULL,
    since REAL NOT NULL, until REAL, PRIMARY KEY (item, annotator)
) WITHOUT ROWID;
CREATE TABLE votes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL REFERENCES items,
    annotator TEXT NOT NULL, choice TEXT NOT NULL, places TEXT, seconds REAL, at REAL NOT NULL,
    undone REAL
);
CREATE UNIQUE INDEX one_vote ON votes (item, annotator) WHERE undone IS NULL;
CREATE INDEX votes_of ON votes (annotator) WHERE undone IS NULL;
CREATE INDEX showings_of ON showings (annotator);
"""


class Database:
    """A connection for all threads of a process. Any number of processes may have the file open."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        with self._troubles():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._prepare()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done within is done as a whole, and on the disk afterwards; or not at all."""
        with self._lock, self._troubles():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries alone."""
        with self._lock, self._troubles():
            yield self._connection

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        """Make the tables, or see that they are ours."""
        # Readers do not wait for writers; every commit is synced, so that none is lost.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction() as connection:
            mark = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {MARK}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif mark != MARK:
                raise RunError(f"{self.path}: is a database of something else; give another file")
            elif version != VERSION:
                raise RunError(
                    f"{self.path}: was written by another version of this program (its form is"
                    f" {version}, this one reads {VERSION})"
                )

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """What SQLite and the system say of the file, as an error that names it."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise DiskError(
                f"{self.path}: cannot be read or written ({error}); give a folder that you may"
                " write to, on a disk with room"
            ) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise RunError(
                f"{self.path}: is no store of labels, or is damaged ({error})"
            ) from error
