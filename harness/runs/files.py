"""The names of what lies in a run's folder, and how it is written: whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import RunError

STATE = "run.json"
LOCK = ".lock"
CONFIG = "config.yaml"
SUMMARY = "summary.json"
# Of the jobs of a sweep.
JOB = "job.json"
JOB_LOCK = ".job.lock"
FAILED = "failed.json"
SKIPPED = "skipped.json"
OUTPUT = "output.txt"
TRACEBACK = "traceback.txt"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file that is never seen half written, in UTF-8, and is on the disk when it is seen.

    Raises RunError if it cannot be written; what was there before is there still.
    """
    draft = path.with_name(f".{path.name}")
    with writing(path):
        with open(draft, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, a limit or a missing permission, as an error that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object; RunError if it is missing, damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is damaged, it holds no JSON ({error})") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: is damaged, it holds no JSON object")
    return content
