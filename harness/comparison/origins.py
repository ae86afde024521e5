"""When, from what and by which commands the runs were made, and the comparison of them."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.comparison.reading import PolicyRun
from harness.disk.files import JOB
from harness.runs.command import COMMAND
from harness.runs.secrets import hide_overrides
from harness.typed import program, word

SWEEP = "multirun.yaml"  # what Hydra keeps of a sweep's command line


@dataclass(frozen=True)
class Origin:
    """A sweep or a single run: its folder, the command that made it if it says so, its runs."""

    folder: Path
    is_sweep: bool
    command: str | None
    runs: list[PolicyRun]


def origins(runs: Iterable[PolicyRun]) -> list[Origin]:
    """The sweeps and single runs that `runs` are of, in their order."""
    members: dict[tuple[Path, bool], list[PolicyRun]] = {}
    for run in runs:
        is_job = (run.folder / JOB).is_file()
        place = run.folder.parent if is_job else run.folder
        members.setdefault((place, is_job), []).append(run)
    return [Origin(*at, _command(*at), of_it) for at, of_it in members.items()]


def command_line(overrides: Sequence[str], *, is_sweep: bool = False) -> str:
    """A command as it can be typed again."""
    start = [program(), "-m"] if is_sweep else [program()]
    return " ".join([*start, *map(word, overrides)])


def when(seconds: Iterable[float]) -> str:
    """One time or the first and the last of several (seconds since 1970), in this place's hours."""
    known = sorted(seconds)
    first, last = (f"{_local(t):%Y-%m-%d %H:%M}" for t in (known[0], known[-1]))
    zone = _local(known[-1]).tzname()
    if first == last:
        return f"{first} {zone}"
    (day, _), (other, hour) = first.split(), last.split()
    return f"{first} to {hour if day == other else last} {zone}"


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def _command(folder: Path, is_sweep: bool) -> str | None:
    """From what Hydra and the run kept; None where that is not there, or damaged."""
    if is_sweep:
        found = _at(_yaml(folder / SWEEP), "hydra", "overrides", "task")
    else:
        found = _yaml(folder / COMMAND / "overrides.yaml")
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return None
    return command_line(hide_overrides(found), is_sweep=is_sweep)


def _yaml(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    return None


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
