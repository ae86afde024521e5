"""Which runs are the same: what of a config shapes results, and how two configs differ."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk.files import read_json
from harness.errors import RunError
from harness.runs.renamed import with_new_names
from harness.runs.stages import fingerprint

# What may differ between a run and its continuation: it does not shape the results.
FREE = (
    *("resume", "resume_anyway", "logger", "callbacks", "cache_dir", "selfcheck", "sweep"),
    "budget",  # the options that it sets are compared
    *("host", "port", "instructions"),  # of a page for people
    "to",
)

# What may be given anew where a run goes on: it changes memory and time, and no result but in its
# rounding.
FOR_THE_MACHINE = (
    *("algo.micro_batch_size", "algo.micro_batch_tokens"),
    *("hardware.checkpointing", "hardware.sampler"),
    # How people are asked, whose votes are kept.
    *(f"reward.{name}" for name in ("minutes", "instructions", "lease", "host", "port")),
    "batch_size",
)

# Of a judge, what says how its verdicts are got, and not what they are.
OF_REQUESTS = (
    *("key_from", "concurrency", "timeout", "retries", "backoff", "max_requests"),
    *("failures_in_a_row", "cache"),
)

# Options that name an input, whose content is compared instead.
PLACES = re.compile(
    r"data\.(val_path|path|more)|model\.(pretrained|chat_template|name)"
    r"|algo\.(critic|policy)_from|policy|policies|against|items"
    r"|reward(\.rewards\.\w+)*\.path"
)


@dataclass(frozen=True)
class Found:
    """A run on the disk."""

    folder: Path
    finished: bool
    # What it was made of, as `harness.parts.inputs` tells it; None of a run that does not say, or
    # that went on with other inputs than it began with.
    inputs: dict[str, Any] | None


def runs_like(config: dict[str, Any], state_files: Iterable[Path], notes: list[str]) -> list[Found]:
    """The runs of the same config, the newest last; `notes` gets what is wrong with the others."""
    marks = {places: fingerprint(identity(config, places=places)) for places in (True, False)}
    found = []
    for file in sorted(state_files, key=_changed):
        try:
            state = read_state(file)
        except RunError as error:
            notes.append(f"left out: {error}")
            continue
        places = state.get("inputs") is None
        theirs = identity(with_new_names(state["config"]), places=places)
        if fingerprint(theirs) == marks[places]:
            inputs = None if state.get("changed") else state.get("inputs")
            found.append(Found(file.parent, state["finished"], inputs))
    return found


def _changed(file: Path) -> float:
    try:
        return file.parent.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def read_state(file: Path) -> dict[str, Any]:
    """What a run.json says; RunError if it is damaged."""
    state = read_json(file)
    kinds = {"config": dict, "finished": bool, "wandb_id": str}
    later = {"inputs": dict, "date": str, "changed": list, "stages": dict}  # of later versions
    kinds |= {key: kind for key, kind in later.items() if state.get(key) is not None}
    for key, kind in kinds.items():
        if not isinstance(state.get(key), kind):
            raise RunError(f"{file}: is damaged, it does not say {key!r} as it should")
    if not isinstance(state["config"].get("algo"), dict):
        raise RunError(f"{file}: is damaged, its config has no algo")
    return state


def identity(config: dict[str, Any], *, places: bool = True) -> dict[str, Any]:
    """What of a run's config shapes its results. Without `places`, for runs whose inputs are known
    by their content: these may lie elsewhere.
    """
    shaping = {key: value for key, value in config.items() if key not in FREE}
    if isinstance(judge := shaping.get("judge"), dict):
        shaping["judge"] = {k: v for k, v in judge.items() if k not in OF_REQUESTS}
    return shaping if places else _without_places(shaping)


def is_place(option: str) -> bool:
    """Whether an option says where an input lies, or only what it is called after that."""
    return bool(PLACES.fullmatch(option))


def _without_places(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_places(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if not is_place(f"{prefix}{key}")
    }


def differences(was: Any, now: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, each with both."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = {}
        for key in sorted(was.keys() | now.keys()):
            found |= differences(was.get(key), now.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return {} if was == now else {prefix: (was, now)}


def input_differences(was: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """What of a run's inputs is not what it was, in words; nothing where it is not known."""
    if was is None:
        return []
    words = []
    for name in sorted(was.keys() | now.keys()):
        parts = list(differences(was.get(name), now.get(name)))
        if not parts:
            continue
        of = sorted(part.removeprefix("files.") for part in parts if part)
        words.append(f"{name}: {', '.join(of) or 'it'} changed")
    return words
