"""The names of what lies in a run's folder, and how it is written: whole or not at all."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException

from harness.errors import USER_ERRORS, DiskError, RunError
from harness.typed import option

STATE = "run.json"
LOCK = ".lock"
CONFIG = "config.yaml"
SUMMARY = "summary.json"
LOG = "run.log"
# Of the jobs of a sweep.
JOB = "job.json"
JOB_LOCK = ".job.lock"
FAILED = "failed.json"
SKIPPED = "skipped.json"
OUTPUT = "output.txt"
TRACEBACK = "traceback.txt"

# What a disk may refuse, by the system's number, and what to do then.
REMEDIES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within your quota there",
    errno.EFBIG: "files may not be that large here (`ulimit -f`, or the file system's limit)",
    errno.EROFS: "give a folder on a disk that can be written to",
    errno.EACCES: "give a folder that you may write to",
    errno.EPERM: "give a folder that you may write to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "the disk itself fails; see the system's log",
}
ROOM = 16 * 1024  # bytes of Hydra's largest file, and some more
RUST = re.compile(r"\(os error (\d+)\)")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file that is never seen half written, in UTF-8, and is on the disk when it is seen.

    Raises DiskError if it cannot be written; what was there before is there still.
    """
    with whole_file(path) as draft:
        # Half a surrogate pair, which JSON can hold and UTF-8 cannot, is written as its escape.
        draft.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def append_whole(path: Path, text: str) -> None:
    """Add whole lines to a file, which are on the disk then; DiskError, and nothing added, if they
    cannot be.
    """
    with writing(path):
        end = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                file.write(text.encode("utf-8", errors="backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, end)
            raise


@contextlib.contextmanager
def whole_file(path: Path, mark: str = "") -> Iterator[Path]:
    """A hidden name beside `path` to write to, with `mark` at its end; what is written there is put
    on the disk and renamed to `path`, or removed if that fails.

    Raises DiskError if it cannot be written.
    """
    draft = path.with_name(f".{path.name}{mark}")
    with writing(path):
        try:
            yield draft
            sync(draft)
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()  # on a full disk what is half written takes room
            raise
        sync_names(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, a limit or a missing permission, as a DiskError that names the file.

    Also where a library has an error of its own for it, as torch, safetensors and tokenizers do.
    """
    try:
        yield
    except USER_ERRORS:
        raise
    except Exception as error:
        cause = error if isinstance(error, OSError) else disk_trouble(error)
        if cause is None:
            raise
        remedy = REMEDIES.get(cause.errno, "give another folder")
        why = cause.strerror or cause
        raise DiskError(f"{path}: cannot be written ({why}); {remedy}") from error


@contextlib.contextmanager
def going_on_later(folder: Path) -> Iterator[None]:
    """What a disk refuses while the run in `folder` trains ends it with the way to go on; also what
    no `writing` has named, as in the files of libraries.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskError):
            what = str(error)
        elif not isinstance(error, USER_ERRORS) and (cause := disk_trouble(error)):
            what = refused(cause, folder)
        else:
            raise
        raise DiskError(f"{what}. Then {option('resume', folder)} goes on") from error


def user_error(error: BaseException, folder: Path | str) -> BaseException | None:
    """What the user can fix of an error: one of USER_ERRORS, or None; `folder` as in `refused`."""
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    if isinstance(cause, USER_ERRORS):
        return cause
    trouble = disk_trouble(error)
    return DiskError(refused(trouble, folder)) if trouble else None


def refused(trouble: OSError, folder: Path | str) -> str:
    """What a disk refused, where, and what to do; `folder` where the system names no file."""
    return f"{trouble.filename or folder}: {trouble.strerror}; {REMEDIES[trouble.errno]}"


def disk_trouble(error: BaseException) -> OSError | None:
    """What the system said of a disk within an error, whatever a library made of it, else None.

    Python's libraries keep it as cause or context; those in Rust write "(os error 28)".
    """
    link: BaseException | None = error
    while link is not None:
        found = link if isinstance(link, OSError) else None
        if number := RUST.search(str(link)):
            found = OSError(int(number[1]), os.strerror(int(number[1])))
        if found is not None and found.errno in REMEDIES:
            return found
        link = link.__cause__ or link.__context__
    return None


def sync(file: Path) -> None:
    """Have a file on the disk before anything that builds on it."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_names(folder: Path) -> None:
    """Have the names in a folder on the disk, where the file system can do that for folders."""
    with contextlib.suppress(OSError):
        sync(folder)


def sync_tree(folder: Path) -> None:
    """Have a folder with all that is in it on the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place, name))
        sync_names(Path(place))


def open_to_others(folder: Path) -> None:
    """Give the files of a folder the permissions that new files have: libraries make some for the
    user alone, and a model in a shared cache is for all.
    """
    umask = os.umask(0)
    os.umask(umask)
    for place, _, names in os.walk(folder):
        for name in names:
            Path(place, name).chmod(0o666 & ~umask)


def check_room(folder: Path) -> None:
    """DiskError unless a few files fit where `folder` is or will be; it is not made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    probe = there / f".room-{os.getpid()}"
    with writing(folder):
        try:
            probe.write_bytes(bytes(ROOM))
        finally:
            probe.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object; RunError if it is missing, damaged or something else."""
    if path.exists() and not path.is_file():
        raise RunError(f"{path}: is no file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is damaged, it holds no JSON ({error})") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: is damaged, it holds no JSON object")
    return content
