"""Results that later runs reuse: a supervised reference, a reward model.

A stage's folder is named by a fingerprint of everything that shaped it. It is written beside its
place and renamed into it when complete, under a file lock: jobs of a sweep that need the same stage
wait for the one that makes it, and a killed job leaves nothing that looks finished. What it leaves
is the checkpoints of the training, from which the next one that needs the stage goes on.
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

from harness.disk.contents import contents, damage
from harness.disk.files import disk_trouble, read_json, sync_names, sync_tree, writing
from harness.disk.locks import held, is_held
from harness.disk.own_folders import try_to_hold
from harness.errors import RunError

MARKER = "stage.json"
CHECKPOINTS = "checkpoints"  # of an unfinished stage
OWN_MARK = "mark"  # a fingerprint of the rest of the marker


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

    def has(self, name: str, recipe: dict[str, Any]) -> bool:
        """Whether the stage of this recipe seems to be there; it is not read."""
        return (self.root / name / fingerprint(recipe) / MARKER).is_file()

    def get(
        self,
        name: str,
        recipe: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        announce: Callable[[str], None] = lambda text: None,
    ) -> Stage:
        """The stage of this recipe; `make(folder)` fills a new folder, or one with the checkpoints
        of a process that did not come to its end, and returns a summary.

        A stage that is damaged is set aside, with a word on it, and made again. DiskError if the
        cache cannot be written to and has no such stage.
        """
        folder = self.root / name / fingerprint(recipe)
        # A finished one is read without the lock: it was renamed into place, and a cache that only
        # others may write to serves as well.
        if (finished := _finished(name, folder)) and not isinstance(finished, str):
            return finished
        started = time.perf_counter()
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f"{folder.name}.lock"
        if is_held(lock):
            announce(f"{name}: waiting for another run that is making it")
        with held(lock):
            finished = _finished(name, folder)
            if isinstance(finished, Stage):
                return finished
            if finished is not None:
                announce(f"{name}: {finished}; this stage is made anew")
                _set_aside(folder)
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
        checkpoints = unfinished / CHECKPOINTS
        if not any(checkpoints.glob("*.ckpt")):
            shutil.rmtree(unfinished, ignore_errors=True)  # of a job that was killed
        with writing(folder):
            unfinished.mkdir(exist_ok=True)
        try:
            summary = make(unfinished)
            shutil.rmtree(checkpoints, ignore_errors=True)
            self._put_in_place(unfinished, folder, summary, recipe, started)
        except Exception as error:
            # On a full disk it would be in the way.
            if disk_trouble(error) and not any(checkpoints.glob("*.ckpt")):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return summary

    def _put_in_place(
        self,
        unfinished: Path,
        folder: Path,
        summary: dict[str, Any],
        recipe: dict[str, Any],
        started: float,
    ) -> None:
        with writing(folder):
            marker = {
                "seconds": time.perf_counter() - started,
                "summary": summary,
                "recipe": recipe,
                "files": contents(unfinished),
            }
            text = json.dumps(marker | {OWN_MARK: fingerprint(marker)}, indent=2, default=str)
            (unfinished / MARKER).write_text(text, encoding="utf-8")
            sync_tree(unfinished)
            os.replace(unfinished, folder)
            sync_names(folder.parent)


def remove(folder: Path, mark: str) -> bool:
    """Remove a stage, finished or not, which is gone at once for those who look for it; False where
    another process makes it. DiskError if it may not be removed.
    """
    lock = try_to_hold(folder.parent, f"{mark}.lock")
    if lock is None:
        return False
    try:
        aside = folder.with_name(f".{mark}.removed")
        with writing(folder):
            if aside != folder:
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(folder, aside)
            shutil.rmtree(aside)
    finally:
        lock.release()
    return True


def stage_in(folder: Path, name: str) -> Stage | None:
    """The finished stage in a folder, None if there is none; RunError if it is damaged."""
    found = _finished(name, folder)
    if isinstance(found, str):
        raise RunError(found)
    return found


def _finished(name: str, folder: Path) -> Stage | str | None:
    """The stage in `folder`, or what is damaged in it; None if there is none."""
    if not folder.exists():
        return None
    file = folder / MARKER
    try:
        marker = read_json(file)
    except RunError as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return str(error)
    seconds, summary, files = (marker.get(key) for key in ("seconds", "summary", "files"))
    if not isinstance(seconds, int | float) or not isinstance(summary, dict):
        return f"{file} is damaged, it lacks seconds or summary"
    if marker.pop(OWN_MARK, None) != (None if files is None else fingerprint(marker)):
        return f"{file} is not what was written"
    return damage(folder, files) or Stage(name, folder, True, seconds, summary)


def _set_aside(folder: Path) -> None:
    """Make room for a stage that is made again; of what is damaged the last one is kept."""
    aside = folder.with_name(f"{folder.name}.damaged")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
