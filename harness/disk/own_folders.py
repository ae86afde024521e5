"""Folders that belong to one process: made by nobody else, and held while the process lives.

Names are by the second, and several processes may start in one. Imported by Hydra before anything
else, so nothing heavy is imported here.
"""

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from harness.disk.files import LOCK, check_room, writing
from harness.disk.locks import acquire, held, is_held
from harness.errors import USER_ERRORS, DiskError, RunError
from harness.printable import say
from harness.surroundings import require_writable


class OwnRunFolder(Callback):
    """Hydra's callback for a single run: `hydra.callbacks.folder` in conf/config.yaml."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have a folder before anything is written."""
        make_own(config, "run")


def make_own(config: DictConfig, kind: str) -> Path:
    """Make the folder `hydra.<kind>.dir` of a "run" or a "sweep", and write its name into `config`.

    The one that the user named, or else one that nobody else has. Hydra only warns of exceptions
    in callbacks, so this exits if there can be none.
    """
    option = f"hydra.{kind}.dir"
    folder = Path(OmegaConf.select(config, option)).absolute()
    try:
        require_writable(folder, option)
        check_room(folder)
        with writing(folder):
            if is_named(config.hydra.overrides.hydra, kind):
                folder.mkdir(parents=True, exist_ok=True)
            else:
                folder = own_folder(folder)
    except USER_ERRORS as error:
        say(f"error: {error}", sys.stderr)
        sys.exit(1)
    with read_write(config.hydra[kind]):
        config.hydra[kind].dir = str(folder)
    return folder


def is_named(hydra_overrides: Sequence[str], kind: str) -> bool:
    """Whether the command line says which folder `hydra.<kind>.dir` is."""
    return any(override.startswith(f"hydra.{kind}.dir=") for override in hydra_overrides)


def own_folder(wanted: Path) -> Path:
    """Make this folder or, where there is one, the first of <wanted>-2, <wanted>-3, ... that is
    not there: one that no other process can have.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for folder in with_numbers(wanted):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("numbers do not end")


def with_numbers(wanted: Path) -> Iterator[Path]:
    """The path itself, then <wanted>-2, <wanted>-3, ..."""
    yield wanted
    for number in itertools.count(2):
        yield wanted.with_name(f"{wanted.name}-{number}")


def hold(folder: Path, name: str = LOCK) -> FileLock:
    """Hold the folder while this process lives; the system lets go of it even after a kill.

    RunError if another process has it.
    """
    if lock := try_to_hold(folder, name):
        return lock
    raise RunError(f"{folder}: another process is running in it")


def try_to_hold(folder: Path, name: str = LOCK) -> FileLock | None:
    """The same, or None if another process has it."""
    try:
        return acquire(FileLock(folder / name), blocking=False)
    except Timeout:
        return None


def is_free(folder: Path) -> bool:
    """Whether this process could have the folder."""
    try:
        return not is_held(folder / LOCK)
    except DiskError:  # somebody else's
        return False


def wait_for(folder: Path) -> None:
    """Return once no live process has the folder."""
    with held(folder / LOCK):
        pass


def drop_if_empty(folder: Path) -> None:
    """Remove a folder in which nothing was written."""
    with contextlib.suppress(OSError):
        folder.rmdir()
