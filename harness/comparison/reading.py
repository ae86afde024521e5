"""Finished runs on the disk: found below folders, read without their models."""

import csv
import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.records import DataError
from harness.runs.files import FAILED, SKIPPED, STATE, SUMMARY
from harness.runs.renamed import TARGETS, with_new_names
from harness.tracking.names import flat

PAGE = "comparison.md"
TRAINING = "harness.tasks.train.train"  # the task whose runs are compared
EPISODES = "rollout/episodes"
SECONDS = "time/iteration"
SCORE = "val/score"
# What is drawn against episodes, in this order.
CURVES = (
    SCORE,
    "val/reward",
    "val/kl",
    "val/gold",
    "rollout/entropy",
    "rollout/length",
    "train/clip_fraction",
    "train/explained_variance",
)
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
        found = _followed(folder)
        if isinstance(found, Path) and found.resolve() not in runs:
            found = _read_or_name(found)
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
    """The run in `folder`, if it is a finished policy run. DataError if a file is damaged."""
    if not (folder / STATE).is_file():
        return LeftOut(folder, _why_failed(folder) or "stopped before it began")
    state = _json(folder / STATE)
    config = with_new_names(state["config"])
    if config["task"]["_target_"] != TRAINING:
        return LeftOut(folder, "no training run")
    if not state["finished"] or not (folder / SUMMARY).is_file():
        why = _why_failed(folder) or "not finished: failed, stopped, or still running"
        return LeftOut(folder, why)
    summary = _json(folder / SUMMARY)
    if summary.get(SCORE) is None:
        return LeftOut(folder, f"no policy run (it has no {SCORE})")
    curves = read_curves(folder / "metrics.csv", CURVES)
    return PolicyRun(folder, state["wandb_id"], flat(config), summary, curves)


def _why_failed(folder: Path) -> str | None:
    """What a failed job of a sweep says of itself; None if it says nothing."""
    if not (folder / FAILED).is_file():
        return None
    return f"failed: {_json(folder / FAILED).get('error')}"


def read_curves(path: Path, metrics: Sequence[str]) -> dict[str, Curve]:
    """Those `metrics` of a metrics.csv that it has, row by row; other columns are not kept.

    DataError names the file and row of what is no number.
    """
    points: dict[str, list[tuple[float, float, float]]] = {name: [] for name in metrics}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            columns = {name: i for i, name in enumerate(next(rows, []))}
            wanted = [(name, columns[name]) for name in metrics if name in columns]
            for episodes, seconds, row in _timed(rows, columns):
                for name, i in wanted:
                    if row[i] and (value := float(row[i])) == value:
                        points[name].append((episodes, value, seconds))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); leave this run out") from error
    except (ValueError, IndexError) as error:
        row_number = rows.line_num
        raise DataError(f"{path}, row {row_number}: {error}; is the file cut off?") from error
    return {name: Curve(*np.array(p).T) for name, p in points.items() if p}


def _read_or_name(folder: Path) -> PolicyRun | LeftOut:
    """One damaged run among hundreds is named, and stops nothing."""
    try:
        return read_run(folder)
    except DataError as error:
        return LeftOut(folder, str(error))


def _timed(
    rows: Iterator[list[str]], columns: dict[str, int]
) -> Iterator[tuple[float, float, list[str]]]:
    """Each row with the episodes and the seconds up to it."""
    episodes = seconds = 0.0
    at, took = columns.get(EPISODES), columns.get(SECONDS)
    for row in rows:
        if at is not None and row[at]:
            episodes = float(row[at])
        if took is not None and row[took]:
            seconds += float(row[took])
        yield episodes, seconds, row


def _run_folders(pattern: str, own: Path | None) -> list[Path]:
    roots = [Path(p) for p in sorted(glob.glob(os.path.expanduser(pattern)))]
    roots = [root for root in roots if root.is_dir()]
    if not roots:
        raise DataError(
            f"runs={pattern}: no such folder; give folders of runs or sweeps, or a glob"
        )
    return [folder for root in roots for folder in _below(root, own)]


def _below(root: Path, own: Path | None) -> list[Path]:
    """Run folders at or below `root`, in their order; what lies within a run is its own affair."""
    found = []
    for place, below, files in os.walk(root):
        folder = Path(place)
        if PAGE in files or (own and folder.resolve() == own.resolve()):
            below.clear()
        elif STATE in files or SKIPPED in files or _was_to_train(folder):
            found.append(folder)
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found, key=_natural)


def _was_to_train(folder: Path) -> bool:
    """Whether Hydra made the folder for a training; one that fails early leaves no more."""
    config = folder / ".hydra" / "config.yaml"
    names = [TRAINING, *(old for old, new in TARGETS.items() if new == TRAINING)]
    return config.is_file() and any(name in config.read_text(encoding="utf-8") for name in names)


def _natural(folder: Path) -> tuple[Path, int, str]:
    """Jobs of a sweep by their number: 2_... before 10_..."""
    number = folder.name.partition("_")[0]
    return folder.parent, int(number) if number.isdecimal() else -1, folder.name


def _followed(folder: Path) -> Path | LeftOut:
    """The run that stands for this folder: itself, or the one that made it needless."""
    if (folder / STATE).is_file() or not (folder / SKIPPED).is_file():
        return folder
    target = Path(_json(folder / SKIPPED)["run"])
    if (target / STATE).is_file():
        return target
    return LeftOut(folder, f"skipped for {target}, which is not there")


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); leave this run out") from error
