"""Which runs are the same: what of a config shapes results, and how two configs differ."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.runs.renamed import with_new_names
from harness.runs.stages import fingerprint

# What may differ between a run and its continuation: it does not shape the results.
FREE = ("resume", "logger", "callbacks", "cache_dir", "selfcheck", "sweep")


def runs_like(config: dict[str, Any], state_files: Iterable[Path]) -> list[tuple[Path, bool]]:
    """Folders of runs of the same config, the newest last, each with whether it is finished."""
    mark = fingerprint(identity(config))
    found = []
    for file in sorted(state_files, key=lambda file: file.parent.stat().st_mtime):
        state = json.loads(file.read_text(encoding="utf-8"))
        if fingerprint(identity(with_new_names(state["config"]))) == mark:
            found.append((file.parent, state["finished"]))
    return found


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's config shapes its results."""
    return {key: value for key, value in config.items() if key not in FREE}


def differences(was: Any, now: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, each with both."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = {}
        for key in sorted(was.keys() | now.keys()):
            found |= differences(was.get(key), now.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return {} if was == now else {prefix: (was, now)}
