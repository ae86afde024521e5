"""How many requests a run may make, those of its earlier processes included."""

import os
from pathlib import Path

from lightning_modules.errors import JudgeError

FILE = "judge_requests"


class Budget:
    """A file in the run's folder that grows by a byte for each request, before it is sent.

    So the count is that of all processes and devices of the run, outlives any kill, and moves with
    the folder. Without a folder it is that of this process; `begin` adds it to the folder's.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.spent = 0
        self._file: int | None = None

    def begin(self, folder: Path) -> None:
        """Count in this folder from now on."""
        if self._file is not None:
            return
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        self._file = os.open(folder / FILE, flags, 0o644)
        os.write(self._file, b"." * self.spent)
        self.spent = os.fstat(self._file).st_size

    def spend(self) -> None:
        """Count one request; JudgeError if there is none left."""
        if self._file is not None:
            self.spent = os.fstat(self._file).st_size
        self._require(self.spent + 1)
        if self._file is None:
            self.spent += 1
            return
        os.write(self._file, b".")
        self.spent = os.lseek(self._file, 0, os.SEEK_CUR)  # behind the byte that was just written
        self._require(self.spent)  # another process may have been faster

    def _require(self, number: int) -> None:
        if self.limit is not None and number > self.limit:
            raise JudgeError(
                f"judge.max_requests={self.limit}: so many are made. What was answered is kept and"
                " is not asked for again: the same command with a larger judge.max_requests goes on"
            )
