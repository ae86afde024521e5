"""Locks on files, which the system lets go of when their process ends, even by a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from harness.disk.files import REMEDIES
from harness.errors import DiskError


def acquire(lock: FileLock, blocking: bool = True) -> FileLock:
    """Hold a lock. Timeout if another process has it and one does not wait; DiskError where the
    file system can lock nothing or the file cannot be made.
    """
    try:
        lock.acquire(blocking=blocking)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, TimeoutError):  # filelock's Timeout is one
            raise
        remedy = REMEDIES.get(
            getattr(error, "errno", None), "give a folder on a file system that can lock files"
        )
        raise DiskError(f"{lock.lock_file}: cannot be locked ({error}); {remedy}") from error
    return lock


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock on this file, waiting for it."""
    lock = acquire(FileLock(path))
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a live process holds the lock on this file."""
    lock = FileLock(path)
    try:
        acquire(lock, blocking=False)
    except TimeoutError:
        return True
    lock.release()
    return False
