"""Results that later runs reuse: a supervised reference, a reward model.

A stage's folder is named by a fingerprint of everything that shaped it. It is written beside its
place and renamed into it when complete, under a file lock: jobs of a sweep that need the same stage
wait for the one that makes it, and a killed job leaves nothing that looks finished.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

MARKER = "stage.json"


@dataclass(frozen=True)
class Stage:
    """A finished stage: where it is, whether this run made it, and its summary."""

    name: str
    path: Path
    reused: bool
    seconds: float
    summary: dict[str, Any]


def fingerprint(recipe: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that change with any value of the recipe."""
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_identity(files: Sequence[Path]) -> str:
    """One hash of source files: a result of other code is another result."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class StageCache:
    """Stages under one folder: `<root>/<name>/<fingerprint>`."""

    def __init__(self, root: Path):
        self.root = root

    def get(
        self,
        name: str,
        recipe: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        announce: Callable[[str], None] = lambda text: None,
    ) -> Stage:
        """The stage of this recipe; `make(folder)` fills a new folder and returns a summary."""
        mark = fingerprint(recipe)
        folder = self.root / name / mark
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{mark}.lock")
        started = time.perf_counter()
        if not (folder / MARKER).is_file() and _is_held(lock):
            announce(f"{name}: waiting for another run that is making it")
        with lock:
            if (folder / MARKER).is_file():
                marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
                return Stage(name, folder, True, marker["seconds"], marker["summary"])
            summary = self._make(folder, recipe, make, started)
        return Stage(name, folder, False, time.perf_counter() - started, summary)

    def _make(
        self,
        folder: Path,
        recipe: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        started: float,
    ) -> dict[str, Any]:
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a job that was killed
        unfinished.mkdir()
        summary = make(unfinished)
        marker = {
            "seconds": time.perf_counter() - started,
            "summary": summary,
            "recipe": recipe,
        }
        (unfinished / MARKER).write_text(
            json.dumps(marker, indent=2, default=str), encoding="utf-8"
        )
        os.replace(unfinished, folder)
        return summary


def _is_held(lock: FileLock) -> bool:
    try:
        with lock.acquire(blocking=False):
            return False
    except TimeoutError:
        return True
