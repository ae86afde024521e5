"""The files that data.path names: one, a list, a glob, or all that can be read below a folder."""

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import DataError
from datamodules.sources.reading.readers import READABLE, rows_of
from datamodules.sources.reading.text import reading


def files_of(option: str, value: str | Sequence[str]) -> list[Path]:
    """The files, in the order given, those of a folder or a glob sorted by name.

    A name that exists is taken as it is, and only then as a glob; `~` is the home folder. Raises
    DataError for what is not there, and for a file that is there twice: its rows would count twice.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{option}={value}: must be a file, a folder or a glob, or a list of them;"
            f" a name that looks like a number is written in quotes, {option}: '2024'"
        )
    files = [file for name in names for file in _matching(option, name, value)]
    _require_distinct(option, files)
    return files


def rows_of_all(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """The rows of all files with their places. Of several, none may be empty: it may be what is
    left of a download.
    """
    for file in files:
        empty = True
        for where, row in rows_of(file):
            empty = False
            yield where, row
        if empty and len(files) > 1:
            raise DataError(f"{file}: no rows in it; leave it out")


def digests(files: Sequence[Path]) -> list[str]:
    """What the files hold, in their order, whatever they are called."""
    return [_sha256(file) for file in files]


def named(files: Sequence[Path]) -> str:
    """What a message calls them."""
    return f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _matching(option: str, name: str, value: str | Sequence[str]) -> list[Path]:
    place = os.path.expanduser(name)
    if os.path.isfile(place):
        return [Path(place)]
    if os.path.isdir(place):
        return _below(option, Path(place))
    matches = sorted(glob.glob(place, recursive=True)) if glob.has_magic(place) else []
    if not matches:
        raise DataError(f"{place}: no such file{_remedy(option, name, value)}")
    files = [
        file
        for match in map(Path, matches)
        for file in (_readable_below(match) if match.is_dir() else _readable([match]))
    ]
    # `**` gives a folder, and what is in it.
    return list(dict.fromkeys(files)) or _nothing(option, name)


def _below(option: str, folder: Path) -> list[Path]:
    return _readable_below(folder) or _nothing(option, str(folder))


def _readable_below(folder: Path) -> list[Path]:
    """All that can be read at any depth, but for hidden files and folders; links are followed."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        seen.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(place, name)) not in seen
        ]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(_readable(found))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _readable(files: Sequence[Path]) -> list[Path]:
    """Those of a kind that can be read. A link that leads nowhere stays, for its error."""
    return [file for file in files if file.name.lower().endswith(READABLE) and not file.is_dir()]


def _nothing(option: str, name: str) -> list[Path]:
    raise DataError(f"{option}={name}: no file there can be read; it must be {', '.join(READABLE)}")


def _remedy(option: str, name: str, value: str | Sequence[str]) -> str:
    """What may be wrong with a name that is not there."""
    if glob.has_magic(name):
        return " or folder, and as a glob it matches nothing"
    if isinstance(value, str) and "," in name:
        return f"; several are given as a list, '{option}=[{name}]'"
    if not isinstance(value, str):
        whole = f"[{','.join(value)}]"
        return f"; if {whole} is one name, quote it: '{option}=\"{whole}\"'"
    return ""


def _require_distinct(option: str, files: Sequence[Path]) -> None:
    by_size: dict[int, list[Path]] = {}
    for file in files:
        with reading(file):
            by_size.setdefault(file.stat().st_size, []).append(file)
    for alike in by_size.values():
        seen: dict[str, Path] = {}
        for file, digest in zip(alike, digests(alike) if len(alike) > 1 else [""], strict=True):
            first = seen.setdefault(digest, file)
            if first is not file and first.resolve() == file.resolve():
                raise DataError(f"{option}: {file} is in it twice")
            if first is not file:
                raise DataError(
                    f"{option}: {file} holds the same as {first}, and every row would count"
                    " twice; leave one out"
                )


def _sha256(path: Path) -> str:
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
