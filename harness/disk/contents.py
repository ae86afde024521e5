"""What files a finished folder holds, with sizes and hashes, and whether they are there still."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import RunError
from lightning_modules.options.identities import file_hash

# What only people read; it may be edited, or go, without a model being another.
FOR_PEOPLE = (".csv", ".md", ".png")


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `folder` that later runs read, by its relative name."""
    return {
        file.relative_to(folder).as_posix(): {
            "size": file.stat().st_size,
            "sha256": file_hash(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix not in FOR_PEOPLE
    }


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def in_units(count: float) -> str:
    """A number of bytes as a person reads it: 812 B, 4.2 MB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.{0 if units[0] == 'B' or count >= 100 else 1}f} {units[0]}"


def damage(folder: Path, listed: Mapping[str, Mapping[str, Any]] | None) -> str | None:
    """Which of the files that `contents` listed is not what it was, and why; None if all are.

    Reading a file takes a second for every one or two GB, and a process does it once for each. For
    None, of a folder that an earlier version wrote, what can be told without: files that are empty,
    JSON that is cut off, weights that are shorter than their own header says.
    RunError if a file is there and cannot be read.
    """
    try:
        if listed is not None:
            found = (_differs(folder / name, was) for name, was in listed.items())
        else:
            found = (_cut_off(file) for file in sorted(folder.rglob("*")) if file.is_file())
        return next((why for why in found if why), None)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder}: cannot be read ({error.strerror or error})"
        ) from error


def _differs(file: Path, was: Mapping[str, Any]) -> str | None:
    if not file.is_file():
        return f"{file} is missing"
    if (size := file.stat().st_size) != was["size"]:
        return f"{file} has {size:,} bytes and had {was['size']:,}"
    return None if file_hash(file) == was["sha256"] else f"{file} is not what was written"


def _cut_off(file: Path) -> str | None:
    if file.suffix in FOR_PEOPLE:
        return None
    if not file.stat().st_size:
        return f"{file} is empty"
    if file.suffix == ".json":
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return f"{file} is no JSON"
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "np"):
                pass
        except SafetensorError as error:
            return f"{file} is damaged ({error})"
    return None
