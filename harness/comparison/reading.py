"""Finished runs on the disk: found below folders, read without their models."""

import glob
import math
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.records import DataError
from harness.disk.files import FAILED, SKIPPED, STATE, SUMMARY, read_json
from harness.errors import RunError
from harness.runs.command import FIRST_ROUND
from harness.runs.renamed import TARGETS, with_new_names
from harness.runs.stages import fingerprint
from harness.tracking.names import flat
from harness.tracking.whole_rows import metrics_rows

PAGE = "comparison.md"
TRAINING = "harness.tasks.train.train"  # the task whose runs are compared
EPISODES = "rollout/episodes"
SECONDS = "time/iteration"
SCORE = "val/score"
GOLD = "val/gold"
KL = "val/kl"
WIN_RATE = "val/win_rate"
LENGTH = "val/length"
LATEST = 2.0**35  # seconds since 1970 that are a date
INPUTS = "inputs."  # of a flat config: what the options only name
# What is drawn against episodes, in this order.
CURVES = (
    SCORE,
    GOLD,
    KL,
    WIN_RATE,
    "val/reward",
    "rollout/entropy",
    "rollout/length",
    "train/clip_fraction",
    "train/explained_variance",
)
# The beginnings of the names in summary.json of the numbers that are compared.
NUMBERS = ("val/", "reference/", EPISODES, "time/")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A metric over one run, at the rows where it was logged; all (T,)."""

    episodes: Array
    values: Array
    seconds: Array  # of all iterations up to the row; evaluations and stages are not in it


@dataclass(frozen=True)
class PolicyRun:
    """A finished policy run: its flat config, its summary, its curves by metric."""

    folder: Path
    wandb_id: str
    config: dict[str, Any]
    summary: dict[str, Any]
    curves: dict[str, Curve]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def ended(self) -> float:
        """When it was finished, in seconds since 1970; of runs that do not say, its file's time."""
        ended = self.final("time/finished")
        known = ended is not None and 0 <= ended < LATEST
        return ended if known else (self.folder / SUMMARY).stat().st_mtime

    def final(self, metric: str) -> float | None:
        """The metric at the end of the run; None where it is unknown or undefined."""
        value = self.summary.get(metric)
        return None if value is None else float(value)


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not compared, and why."""

    folder: Path
    reason: str


def collect(
    patterns: Sequence[str], own: Path | None = None
) -> tuple[list[PolicyRun], list[LeftOut]]:
    """The policy runs at or below the folders and globs `patterns`, and what is left out of them.

    `own` is the folder of the comparison itself. DataError if a pattern matches nothing, or no run
    can be compared.
    """
    runs: dict[Path, PolicyRun] = {}
    left_out: list[LeftOut] = []
    for folder in dict.fromkeys(f for p in patterns for f in _run_folders(p, own)):
        found = _read_or_name(folder, runs)
        if isinstance(found, LeftOut):
            left_out.append(found)
        elif isinstance(found, PolicyRun):
            runs[found.folder.resolve()] = found
    if not runs:
        reasons = "".join(f"\n  {item.folder}: {item.reason}" for item in left_out[:20])
        raise DataError(
            f"runs={','.join(patterns)}: no finished policy run in {len(left_out)} run folders;"
            f" give the folder of a sweep or of finished runs{reasons}"
        )
    return list(runs.values()), left_out


def read_run(folder: Path) -> PolicyRun | LeftOut:
    """The run in `folder`, if it is a finished policy run. RunError or DataError if a file is
    damaged.
    """
    if not (folder / STATE).is_file():
        return LeftOut(folder, _why_failed(folder) or "stopped before it began")
    state = read_json(folder / STATE)
    config = with_new_names(state.get("config"))
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(task, dict) or "finished" not in state:
        raise DataError(f"{folder / STATE}: is not what a run writes (it lacks its config or task)")
    if task.get("_target_") != TRAINING:
        return LeftOut(folder, "no training run")
    if state["finished"] is not True or not (folder / SUMMARY).is_file():
        why = _why_failed(folder) or "not finished: failed, stopped, or still running"
        return LeftOut(folder, why)
    summary = read_json(folder / SUMMARY)
    if summary.get(SCORE) is None:
        return LeftOut(folder, f"no policy run (it has no {SCORE})")
    check_config(folder / STATE, config)
    check_summary(folder / SUMMARY, summary)
    curves = read_curves(folder / "metrics.csv", CURVES)
    config = flat(config) | _inputs(state.get("inputs"))
    return PolicyRun(folder, str(state.get("wandb_id")), config, summary, curves)


def _inputs(inputs: Any) -> dict[str, str]:
    """What a run was made of, shortly: runs on different data are not one configuration, even if
    their options are the same.
    """
    named = inputs if isinstance(inputs, dict) else {}
    return {f"{INPUTS}{name}": fingerprint({"is": value})[:8] for name, value in named.items()}


def check_config(path: Path, config: dict[str, Any]) -> None:
    """DataError unless a config has what every run is told apart by."""
    for group in ("algo", "model", "data", "reward"):
        if group in config and not isinstance(config[group], dict):
            raise DataError(f"{path}: is damaged, its {group} is {config[group]!r:.40}")
    if not isinstance(config.get("algo"), dict) or not isinstance(config["algo"].get("name"), str):
        raise DataError(f"{path}: is damaged, it names no algo")
    if type(config.get("seed")) is not int:
        raise DataError(f"{path}: is damaged, its seed is {config.get('seed')!r:.40}")


def check_summary(path: Path, summary: dict[str, Any]) -> None:
    """DataError unless a summary holds numbers where a comparison reads numbers, null where one is
    undefined, and nothing nested.
    """
    for name, value in summary.items():
        if isinstance(value, dict | list):
            raise DataError(f"{path}: is damaged, its {name} is {value!r:.40}")
        if name.endswith("/path") and not isinstance(value, str):
            raise DataError(f"{path}: is damaged, its {name} is {value!r:.40}, which is no folder")
        needed = name in (SCORE, EPISODES)
        if name.startswith(NUMBERS) and not (_is_finite(value) or (value is None and not needed)):
            raise DataError(f"{path}: its {name} is {value!r:.40}, which is no finite number")
    if EPISODES not in summary:
        raise DataError(f"{path}: is damaged, it lacks {EPISODES}")


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _why_failed(folder: Path) -> str | None:
    """What a failed job of a sweep says of itself; None if it says nothing."""
    if not (folder / FAILED).is_file():
        return None
    return f"failed: {read_json(folder / FAILED).get('error')}"


def read_curves(path: Path, metrics: Sequence[str]) -> dict[str, Curve]:
    """Those `metrics` of a metrics.csv that it has, row by row; other columns are not kept.

    DataError names the file and row of what is not whole: a row that is missing would make others
    earlier than they were.
    """
    found = metrics_rows(path)
    wrong = found.wrong
    if not wrong and found.first_step != 1:
        wrong = f"{path}, row 2: is of step {found.first_step}, not of step 1"
    if wrong:
        raise DataError(f"{wrong}; leave this run out, or put the file back from a copy")
    points: dict[str, list[tuple[float, float, float]]] = {name: [] for name in metrics}
    episodes = seconds = 0.0
    for row in found.rows:
        episodes = float(row.get(EPISODES) or episodes)
        seconds += float(row.get(SECONDS) or 0)
        for name in metrics:
            if (text := row.get(name)) and (value := float(text)) == value:
                points[name].append((episodes, value, seconds))
    return {name: Curve(*np.array(p).T) for name, p in points.items() if p}


def _read_or_name(folder: Path, known: Container[Path]) -> PolicyRun | LeftOut | Path:
    """The run that stands for a folder; only where it is if it is among the `known`. One damaged
    run among hundreds is named, and stops nothing.
    """
    try:
        found = _followed(folder)
        if isinstance(found, LeftOut) or found.resolve() in known:
            return found
        return read_run(found)
    except (DataError, RunError) as error:
        return LeftOut(folder, str(error))
    except OSError as error:
        return LeftOut(folder, f"{error.filename or folder}: {error.strerror or error}")


def _run_folders(pattern: str, own: Path | None) -> list[Path]:
    place = os.path.expanduser(pattern)
    # A folder that is called so comes before what the name would match.
    names = [place] if os.path.isdir(place) else sorted(glob.glob(place))
    roots = [Path(name) for name in names if os.path.isdir(name)]
    if not roots:
        several = f"; several are given as a list, 'runs=[{pattern}]'" if "," in pattern else ""
        raise DataError(
            f"runs={pattern}: no such folder; give folders of runs or sweeps, or a glob{several}"
        )
    return [folder for root in roots for folder in _below(root, own)]


def _below(root: Path, own: Path | None) -> list[Path]:
    """Run folders at or below `root`, in their order; what lies within a run is its own affair."""
    found = []
    for place, below, files in os.walk(root):
        folder = Path(place)
        if PAGE in files or (own and folder.resolve() == own.resolve()):
            below.clear()
        elif FIRST_ROUND in below:  # what is compared of rounds is each of them
            below[:] = [name for name in below if (folder / name / STATE).is_file()]
        elif {STATE, SKIPPED, FAILED} & set(files) or _was_to_train(folder):
            found.append(folder)
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found, key=_natural)


def _was_to_train(folder: Path) -> bool:
    """Whether Hydra made the folder for a training; one that fails early leaves no more."""
    config = folder / ".hydra" / "config.yaml"
    names = [TRAINING, *(old for old, new in TARGETS.items() if new == TRAINING)]
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(name in text for name in names)


def _natural(folder: Path) -> tuple[Path, int, str]:
    """Jobs of a sweep by their number: 2_... before 10_..."""
    number = folder.name.partition("_")[0]
    return folder.parent, int(number) if number.isdecimal() else -1, folder.name


def _followed(folder: Path) -> Path | LeftOut:
    """The run that stands for this folder: itself, or the one that made it needless."""
    if (folder / STATE).is_file() or not (folder / SKIPPED).is_file():
        return folder
    try:
        target = read_json(folder / SKIPPED).get("run")
    except RunError as error:
        return LeftOut(folder, str(error))
    if not isinstance(target, str):
        return LeftOut(folder, f"{folder / SKIPPED}: is damaged, it names no run")
    if (Path(target) / STATE).is_file():
        return Path(target)
    return LeftOut(folder, f"skipped for {target}, which is not there")
