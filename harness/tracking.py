"""Where metrics go: a CSV that every run writes, and Weights & Biases."""

import csv
import netrc
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

SECRET = re.compile(r"(^|\.)(.*_)?(api_key|password|secret|token)$")


class MetricsCsv(Logger):
    """One row a step, whatever number of calls its metrics come in.

    `step` counts from 1: the row says what was known after so many steps. A row is on the disk
    before the step's checkpoint is, so a resumed run finds every row that it builds on.
    """

    def __init__(self, path: Path, keep_steps: int = 0):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            self.rows = [
                {k: v for k, v in row.items() if v != ""}
                for row in rows
                if int(row["step"]) <= keep_steps
            ]
            self._rewrite()

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config is in config.yaml already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": (step or 0) + 1} | {k: v for k, v in metrics.items() if k != "epoch"}
        if self.rows and int(self.rows[-1]["step"]) == row["step"]:
            self.rows[-1] |= row
            self._rewrite()
        else:
            known = self._columns()
            self.rows.append(row)
            if set(row) <= set(known):
                with open(self.path, "a", newline="") as file:
                    csv.DictWriter(file, known).writerow(row)
            else:
                self._rewrite()

    def last_values(self) -> dict[str, float]:
        """The latest value of every metric."""
        latest: dict[str, float] = {}
        for row in self.rows:
            latest |= {k: float(v) for k, v in row.items() if k != "step"}
        return latest

    def _columns(self) -> list[str]:
        names = {name for row in self.rows for name in row} - {"step"}
        return ["step", *sorted(names)]

    def _rewrite(self) -> None:
        draft = self.path.with_name(f".{self.path.name}")
        with open(draft, "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns())
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(draft, self.path)


class WandbRun(WandbLogger):
    """Lightning's logger on a W&B run of ours: metrics of one step make one row."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log({k: v for k, v in metrics.items() if k != "epoch"}, step=step)


def wandb_run(
    *,
    name: str,
    project: str,
    entity: str | None,
    mode: str | None,
    group: str | None,
    tags: list[str] | None,
    folder: Path,
    run_name: str,
    job_type: str,
    run_id: str | None,
    default_group: str,
    x_axis: str | None,
    config: dict[str, Any],
) -> WandbRun:
    """A logger on a new W&B run, or on the run `run_id` if there is one.

    Without an API key and without WANDB_MODE it is offline by itself; nothing ever prompts.
    """
    run = wandb.init(
        project=project,
        entity=entity,
        mode=mode or os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline"),
        group=group or default_group,
        tags=tags,
        dir=folder,
        name=run_name,
        job_type=job_type,
        id=run_id,
        reinit="create_new",  # a stage's run beside that of the job which needs it
        resume="allow" if run_id else None,
        config=flat(config),
        settings=wandb.Settings(
            silent=True, console="off", disable_git=False, x_disable_stats=True
        ),
    )
    if x_axis:
        run.define_metric(x_axis)
        run.define_metric("*", step_metric=x_axis)
    return WandbRun(experiment=run, project=project, save_dir=str(folder))


def log_report(loggers: Sequence[Logger], folder: Path, numbers: Mapping[str, float]) -> None:
    """Put a report's numbers, pictures and text into the W&B run, if there is one."""
    for logger in loggers:
        if not isinstance(logger, WandbRun):
            continue
        run = logger.experiment
        run.summary.update(numbers)
        pictures = sorted((folder / "report").glob("*.png"))
        run.log({f"report/{p.stem}": wandb.Image(str(p)) for p in pictures})
        for file in (folder / "report.md", *pictures):
            # A copy of the run's own: a stage's folder is renamed when it is complete.
            copy = Path(run.dir, file.relative_to(folder))
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
            run.save(str(copy), base_path=run.dir, policy="now")


def has_api_key() -> bool:
    """Whether W&B could log in without asking: from the environment or a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with dotted keys, as W&B compares them; values of secrets are left out."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        elif not SECRET.search(name):
            result[name] = value
    return result


def sync_command(folder: Path) -> str | None:
    """How to upload the offline runs below `folder`, or None if there are none."""
    if not any(folder.glob("wandb/offline-run-*")):
        return None
    return f"wandb sync {os.path.relpath(folder)}/wandb/offline-run-*"
