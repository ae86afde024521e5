"""Runs near what was asked for: named where there is nothing to resume."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.disk.files import STATE
from harness.disk.own_folders import is_free
from harness.errors import RunError
from harness.runs.identity import differences, identity, read_state
from harness.runs.renamed import with_new_names

NO_FOLDERS = ("none", "true", "false", "yes", "no", "last", "latest", "newest")
MOST = 3  # folders, or options, in a message


def require_run(option: str, folder: Path) -> None:
    """Raise RunError unless a folder holds a run; the message names those that may be meant."""
    if (folder / STATE).is_file():
        return
    if folder.name.lower() in NO_FOLDERS:
        raise RunError(
            f"{option}={folder}: give the folder of a run, or resume=auto for the newest unfinished"
            " run like this one; without it a new one begins"
        )
    why = f"holds no run (there is no {STATE} in it)" if folder.is_dir() else "no such folder"
    raise RunError(f"{option}={folder}: {why}{_near(folder)}")


def why_nothing(config: dict[str, Any], state_files: Iterable[Path]) -> str:
    """Why none of these runs is gone on with: the nearest one, and how it differs from `config`."""
    found = []
    for file in state_files:
        try:
            state = read_state(file)
        except RunError:  # named already
            continue
        differing = differences(identity(with_new_names(state["config"])), identity(config))
        found.append((len(differing), -_changed(file.parent), file.parent, state, differing))
    if not found:
        return "there is no run"
    *_, folder, state, differing = min(found, key=lambda each: each[:2])
    return f"the nearest, {folder}, {_difference(folder, state['finished'], differing)}"


def _difference(folder: Path, finished: bool, differing: dict[str, tuple[Any, Any]]) -> str:
    if not differing:
        if finished:
            return "is finished"
        return "is on other inputs" if is_free(folder) else "is in the hands of another process"
    words = [f"{name} ({was!r} then, {now!r} now)" for name, (was, now) in differing.items()]
    more = f" and {len(words) - MOST} more" if len(words) > MOST else ""
    return f"differs in {', '.join(words[:MOST])}{more}"


def _near(folder: Path) -> str:
    """Where a run may be instead, as the end of a message."""
    if (folder.parent / STATE).is_file():
        return f"; the run is {folder.parent}"
    if inside := _newest(folder.glob(f"*/{STATE}")):
        return f"; those in it are {_listed(inside)}"
    beside = {run.name: run for run in _newest(folder.parent.glob(f"*/{STATE}"))}
    if not beside:
        return ""
    near = difflib.get_close_matches(folder.name, beside, n=MOST, cutoff=0.8)
    if near:
        return f"; did you mean {_listed([beside[name] for name in near])}?"
    return f"; the newest beside it are {_listed(list(beside.values()))}"


def _newest(states: Iterable[Path]) -> list[Path]:
    return sorted((state.parent for state in states), key=_changed, reverse=True)


def _listed(folders: Sequence[Path]) -> str:
    more = f" and {len(folders) - MOST} more" if len(folders) > MOST else ""
    return ", ".join(map(str, folders[:MOST])) + more


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
