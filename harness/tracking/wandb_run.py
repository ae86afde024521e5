"""Weights & Biases: a run of its own for every job and every stage."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from harness.runs.provenance import provenance
from harness.tracking.names import flat, option_names
from harness.tracking.tracker import Rows, Tracker
from harness.tracking.wandb_account import chosen_mode
from harness.tracking.wandb_files import steps_on_disk

BEST = {
    "val/score": "max",
    "val/reward": "max",
    "val/gold": "max",
    "val/win_rate": "max",
    "val/accuracy": "max",
    "val/loss": "min",
}


class WandbRun(WandbLogger, Tracker):
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

    def log_media(
        self,
        step: int,
        *,
        tables: Mapping[str, Rows] | None = None,
        pictures: Mapping[str, Path] | None = None,
    ) -> None:
        media: dict[str, Any] = {}
        for name, rows in (tables or {}).items():
            columns = list(rows[0])
            media[name] = wandb.Table(columns, [[row[c] for c in columns] for row in rows])
        for name, picture in (pictures or {}).items():
            media[name] = wandb.Image(str(picture))
        self.log_metrics(media, step=step)

    def log_model(self, folder: Path) -> None:
        if self.artifacts:
            artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model")
            # The files stay where they are: an offline run is uploaded from there.
            artifact.add_dir(str(folder / "model"), policy="immutable")
            self.experiment.log_artifact(artifact)

    def log_report(self, folder: Path, numbers: Mapping[str, float]) -> None:
        run = self.experiment
        run.summary.update(numbers)
        pictures = sorted((folder / "report").glob("*.png"))
        run.log({f"report/{p.stem}": wandb.Image(str(p)) for p in pictures})
        for file in (folder / "report.md", *pictures):
            # A copy of the run's own: a stage's folder is renamed when it is complete.
            copy = Path(run.dir, file.relative_to(folder))
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
            run.save(str(copy), base_path=run.dir, policy="now")

    def finish(self) -> None:
        self.experiment.finish()


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
        tags=[*dict.fromkeys([*(tags or []), *option_names(config)])],
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
        with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                numbers = {k: float(v) for k, v in row.items() if v and k != "step"}
                logger.log_metrics(numbers, step=int(row["step"]) - 1)
    return logger


def define_metrics(run: Any, x_axis: str | None) -> None:
    """The x-axis of all metrics (null: the step), and the best value in the summary of some.

    Of most metrics the summary is the last value; of those in BEST it is {last, max or min}.
    """
    if x_axis:
        run.define_metric(x_axis)
        run.define_metric("*", step_metric=x_axis)
    for metric, best in BEST.items():
        run.define_metric(metric, step_metric=x_axis, summary=f"last,{best}")
