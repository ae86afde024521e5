"""Weights & Biases: a run of its own for every job and every stage."""

import csv
import netrc
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from harness.wandb_log import steps_on_disk
from lightning_modules.options import require

MODES = ("online", "offline", "disabled")
BEST = {
    "val/score": "max",
    "val/reward": "max",
    "val/gold": "max",
    "val/win_rate": "max",
    "val/accuracy": "max",
    "val/loss": "min",
}
LIBRARIES = ("torch", "transformers", "tokenizers", "pytorch-lightning", "peft", "wandb")
SECRET = re.compile(r"(^|\.)(.*_)?(api_key|password|secret|token)$")


class WandbRun(WandbLogger):
    """Lightning's logger on a W&B run of ours: all that is logged of one step makes one row.

    A resumed run begins at `first_step`; rows that W&B has from before are not sent again.
    """

    def __init__(self, run: Any, *, first_step: int = 0, artifacts: bool = False, **options: Any):
        super().__init__(experiment=run, **options)
        self.first_step = first_step
        self.artifacts = artifacts

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, tables and pictures of one step."""
        if step is None or step >= self.first_step:
            row = {k: v for k, v in metrics.items() if k != "epoch"}
            self.experiment.log(row, step=step)


def wandb_run(
    *,
    name: str,
    project: str,
    entity: str | None,
    mode: str | None,
    group: str | None,
    tags: Sequence[str] | None,
    artifacts: bool = False,
    folder: Path,
    run_name: str,
    job_type: str,
    run_id: str | None,
    default_group: str,
    x_axis: str | None,
    config: dict[str, Any],
) -> WandbRun:
    """A logger on a new W&B run, or on the run `run_id` if there is one.

    Without an API key and without a mode it is offline by itself; nothing ever prompts. Raises
    OptionError for a mode that does not exist, and for online without a key.
    """
    mode = chosen_mode(mode)
    run = wandb.init(
        project=project,
        entity=entity,
        mode=mode,
        group=group or default_group,
        tags=[*dict.fromkeys([*(tags or []), *_option_names(config)])],
        dir=folder,
        name=run_name,
        job_type=job_type,
        id=run_id,
        reinit="create_new",  # a stage's run beside that of the job which needs it
        resume="allow" if run_id else None,
        config=flat(config) | provenance(),
        settings=wandb.Settings(
            silent=True, console="off", disable_git=False, x_disable_stats=True
        ),
    )
    define_metrics(run, x_axis)
    first = max(run.starting_step, steps_on_disk(folder, run_id)) if run_id else 0
    logger = WandbRun(
        run, first_step=first, artifacts=artifacts, project=project, save_dir=str(folder)
    )
    if run_id and (folder / "metrics.csv").is_file():
        # What a killed process had not handed over yet.
        with open(folder / "metrics.csv", newline="") as file:
            for row in csv.DictReader(file):
                numbers = {k: float(v) for k, v in row.items() if v and k != "step"}
                logger.log_metrics(numbers, step=int(row["step"]) - 1)
    return logger


def chosen_mode(mode: str | None) -> str:
    """`logger.mode`, else WANDB_MODE, else online if W&B could log in without asking."""
    require(mode is None or mode in MODES, "logger.mode", mode, f"must be one of {MODES}, or null")
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
    require(
        mode != "online" or has_api_key(),
        "logger.mode",
        mode,
        "W&B has no API key: `wandb login`, or WANDB_API_KEY, or logger.mode=offline",
    )
    return mode


def define_metrics(run: Any, x_axis: str | None) -> None:
    """The x-axis of all metrics (null: the step), and the best value in the summary of some.

    Of most metrics the summary is the last value; of those in BEST it is {last, max or min}.
    """
    if x_axis:
        run.define_metric(x_axis)
        run.define_metric("*", step_metric=x_axis)
    for metric, best in BEST.items():
        run.define_metric(metric, step_metric=x_axis, summary=f"last,{best}")


def provenance() -> dict[str, Any]:
    """With what a run is made: versions, the project's commit, devices."""
    cuda = torch.cuda.is_available()
    return {
        **{f"versions.{library}": version(library) for library in LIBRARIES},
        "versions.python": platform.python_version(),
        "commit": commit(),
        "devices.name": torch.cuda.get_device_name() if cuda else platform.machine(),
        "devices.visible": torch.cuda.device_count() if cuda else 1,
    }


def commit() -> str | None:
    """The project's git commit, marked if the tree has changes; None outside a checkout."""
    here = str(Path(__file__).parent)
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def log_model(loggers: Sequence[Logger], folder: Path) -> None:
    """The run's `model/` as an artifact of its W&B run, where `logger.artifacts` asks for it."""
    for logger in loggers:
        if isinstance(logger, WandbRun) and logger.artifacts:
            artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model")
            # The files stay where they are: an offline run is uploaded from there.
            artifact.add_dir(str(folder / "model"), policy="immutable")
            logger.experiment.log_artifact(artifact)


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


def _option_names(config: Mapping[str, Any]) -> list[str]:
    """The chosen option of each group that runs are filtered by."""
    names = [config.get(g, {}).get("name") for g in ("algo", "model", "data", "reward", "adapter")]
    return [name for name in names if name and name != "none"]


def sync_command(folder: Path) -> str | None:
    """How to upload the offline runs below `folder`, or None if there are none."""
    if not any(folder.glob("wandb/offline-run-*")):
        return None
    return f"wandb sync {os.path.relpath(folder)}/wandb/offline-run-*"
