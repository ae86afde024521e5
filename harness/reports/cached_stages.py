"""What lies in a cache of stages: what of, how large, how old, used by which runs."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk.contents import size_of
from harness.disk.files import STATE, read_json
from harness.disk.locks import is_held
from harness.disk.own_folders import is_free
from harness.errors import DiskError, RunError
from harness.runs.stages import MARKER

ENTRY = re.compile(r"\.?(?P<mark>[0-9a-f]{16})(\.(?P<state>damaged|unfinished|removed))?")
IN_USE = "in use"


@dataclass(frozen=True)
class User:
    """A run that has used stages."""

    folder: Path
    model: str
    data: str
    marks: frozenset[str]
    live: bool  # a process is running in it


@dataclass(frozen=True)
class Cached:
    """A folder in the cache."""

    folder: Path
    name: str  # of the stage: sft, reward_model
    mark: str  # its fingerprint
    state: str  # finished, unfinished, damaged or in use
    model: str
    data: str
    bytes: int
    changed: float  # seconds since 1970
    users: tuple[User, ...]

    @property
    def days(self) -> float:
        """How old it is."""
        return (time.time() - self.changed) / 86400


def cached_stages(cache: Path, users: Sequence[User]) -> list[Cached]:
    """Every stage in a cache, finished or not, the largest first."""
    folders = [f for f in sorted(cache.glob("*/*")) if ENTRY.fullmatch(f.name) and f.is_dir()]
    return sorted((_read(folder, users) for folder in folders), key=lambda s: -s.bytes)


def users_below(roots: Sequence[Path]) -> list[User]:
    """The runs at or below these folders, by what their run.json says; what lies within a run is
    its own affair.
    """
    found = {}
    for root in roots:
        for place, below, files in os.walk(root):
            below[:] = [name for name in below if not name.startswith(".")]
            if STATE in files:
                if user := _user(Path(place)):
                    found[Path(place).resolve()] = user
                below[:] = [name for name in below if name.startswith("earlier-")]
    return list(found.values())


def _user(folder: Path) -> User | None:
    try:
        state = read_json(folder / STATE)
    except RunError:
        return None
    stages, config = state.get("stages"), state.get("config")
    marks = stages.values() if isinstance(stages, dict) else ()
    names = (_name(config, group) for group in ("model", "data"))
    return User(folder, *names, frozenset(map(str, marks)), not is_free(folder))


def _name(config: Any, group: str) -> str:
    section = config.get(group) if isinstance(config, Mapping) else None
    return str(section.get("name")) if isinstance(section, Mapping) else ""


def _read(folder: Path, users: Sequence[User]) -> Cached:
    match = ENTRY.fullmatch(folder.name)
    mark, state = match["mark"], match["state"] or "finished"
    recipe: Mapping[str, Any] = {}
    try:
        marker = read_json(folder / MARKER)
        recipe = marker.get("recipe") or {}
        if state == "finished" and not _sizes_are_right(folder, marker):
            state = "damaged"
    except RunError:
        state = "damaged" if state == "finished" else state
    own = tuple(user for user in users if mark in user.marks)
    if _is_made(folder.parent / f"{mark}.lock") or any(user.live for user in own):
        state = IN_USE
    model, data = (own[0].model, own[0].data) if own else _of(recipe)
    name = folder.parent.name
    return Cached(
        folder, name, mark, state, model, data, size_of(folder), folder.stat().st_mtime, own
    )


def _is_made(lock: Path) -> bool:
    try:
        return lock.exists() and is_held(lock)
    except DiskError:  # somebody else's
        return True


def _sizes_are_right(folder: Path, marker: Mapping[str, Any]) -> bool:
    """What can be told without reading the weights, as a run does before it uses a stage."""
    for name, was in (marker.get("files") or {}).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != was["size"]:
            return False
    return True


def _of(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """What a stage that no run has used is of, as far as its recipe says."""
    model, data = recipe.get("model"), recipe.get("data")
    model = model if isinstance(model, Mapping) else {}
    config = model.get("config")
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    source = data.get("source") if isinstance(data, Mapping) else None
    return str(kind or model.get("hub") or ""), str(source or "")
