"""Weights & Biases: a run of its own for every job and every stage."""

import contextlib
import functools
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from harness.printable import say
from harness.runs.provenance import provenance
from harness.signals import is_stopping
from harness.tracking.names import flat, option_names
from harness.tracking.tracker import Rows, Tracker
from harness.tracking.wandb_account import chosen_mode, own_surroundings
from harness.tracking.wandb_files import steps_on_disk
from harness.tracking.wandb_limits import NAME, TAG, fitting, sendable, tag_list
from harness.tracking.whole_rows import metrics_rows

BEST = {
    "val/score": "max",
    "val/reward": "max",
    "val/gold": "max",
    "val/win_rate": "max",
    "val/accuracy": "max",
    "val/thumbs_auc": "max",
    "val/thumbs_accuracy": "max",
    "val/loss": "min",
}


def spared(method: Callable[..., None]) -> Callable[..., None]:
    """A method of WandbRun whose failure does not end the training: it is said, once, and nothing
    more is sent. metrics.csv and samples.jsonl go on.
    """

    @functools.wraps(method)
    def call(self: "WandbRun", *args: Any, **kwargs: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.fail(error)

    return call


class WandbRun(WandbLogger, Tracker):
    """Lightning's logger on a W&B run of ours: all that is logged of one step makes one row.

    A resumed run begins at `first_step`; rows that W&B has from before are not sent again. As a row
    that was sent does not grow any more, the last one is not sent when a signal ends the training:
    what goes on from there sends it.
    """

    failed = False

    def __init__(self, run: Any, *, first_step: int = 0, artifacts: bool = False, **options: Any):
        super().__init__(experiment=run, **options)
        self.first_step = first_step
        self.row: dict[str, Any] = {}  # of the latest step, which may still grow
        self.step: int | None = None
        self.artifacts = artifacts

    @rank_zero_only
    @spared
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, tables and pictures of one step."""
        if step is None or step >= self.first_step:
            if step != self.step:
                self._send()
            self.step = step
            self.row |= {k: v for k, v in metrics.items() if k != "epoch"}

    def _send(self) -> None:
        if self.row:
            self.experiment.log(self.row, step=self.step)
        self.row = {}

    @spared
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

    @spared
    def log_model(self, folder: Path) -> None:
        if self.artifacts:
            artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model")
            # The files stay where they are: an offline run is uploaded from there.
            artifact.add_dir(str(folder / "model"), policy="immutable")
            self.experiment.log_artifact(artifact)

    @spared
    def log_report(self, folder: Path, numbers: Mapping[str, float]) -> None:
        run = self.experiment
        self._send()
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
        try:
            if not (self.failed or is_stopping()):
                self._send()
            self.experiment.finish()
        except Exception as error:
            self.fail(error)
            # A service that is gone would be asked again when the process ends.
            with contextlib.suppress(Exception, SystemExit):
                wandb.teardown()

    def fail(self, error: Exception) -> None:
        """Send nothing more, and say so once."""
        if not self.failed:
            warn(f"failed and gets no more of this run: {_first_line(error)}")
        self.failed = True


def wandb_run(
    *,
    name: str,
    project: str | int | None,
    entity: str | int | None,
    mode: str | None,
    group: str | None,
    tags: Sequence[str] | str | None,
    artifacts: bool = False,
    folder: Path,
    run_name: str,
    job_type: str,
    run_id: str | None,
    default_group: str,
    x_axis: str | None,
    config: dict[str, Any],
    metrics: Path,
) -> WandbRun | None:
    """A logger on a new W&B run, or on the run `run_id` if there is one. What `metrics`, a
    metrics.csv, has from before and W&B has not is sent.

    Without an API key and without a mode it is offline by itself; nothing ever prompts. Where it
    cannot begin online it goes on offline, and where not even that, None: both are said. Raises
    OptionError for a mode that does not exist, and for online without a key.
    """
    begin = functools.partial(
        wandb.init,
        project=None if project is None else str(project),
        entity=None if entity is None else str(entity),
        group=fitting(group or default_group, NAME),
        tags=[*dict.fromkeys(fitting(t, TAG) for t in (*tag_list(tags), *option_names(config)))],
        dir=folder,
        name=fitting(run_name, NAME),
        job_type=job_type,
        id=run_id,
        reinit="create_new",  # a stage's run beside that of the job which needs it
        resume="allow" if run_id else None,
        config=sendable(flat(config) | provenance()),
    )
    run = _begun(begin, chosen_mode(mode))
    if run is None:
        return None
    define_metrics(run, x_axis)
    first = max(run.starting_step, steps_on_disk(folder, run_id)) if run_id else 0
    logger = WandbRun(
        run, first_step=first, artifacts=artifacts, project=run.project, save_dir=str(folder)
    )
    if metrics.is_file():
        # What a killed process had not handed over yet.
        for row in metrics_rows(metrics).rows:
            numbers = {k: float(v) for k, v in row.items() if v and k != "step"}
            logger.log_metrics(numbers, step=int(row["step"]) - 1)
    return logger


def _begun(begin: Callable[..., Any], mode: str) -> Any | None:
    """A run of W&B in this mode, or offline if it cannot begin, or None."""
    # Twice in any case: W&B leaves variables alone of which it could make nothing once.
    for attempt in (mode, "offline"):
        settings = wandb.Settings(silent=True, console="off", disable_git=False)
        try:
            with own_surroundings():
                return begin(mode=attempt, settings=settings)
        except Exception as error:
            warn(f"cannot begin {attempt}: {_first_line(error)}")
    warn("gets nothing of this run")
    return None


def warn(text: str) -> None:
    """What W&B could not do."""
    say(f"warning: W&B {text}", sys.stderr)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text:.300}" or type(error).__name__


def define_metrics(run: Any, x_axis: str | None) -> None:
    """The x-axis of all metrics (null: the step), and the best value in the summary of some.

    Of most metrics the summary is the last value; of those in BEST it is {last, max or min}.
    """
    if x_axis:
        run.define_metric(x_axis)
        run.define_metric("*", step_metric=x_axis)
    for metric, best in BEST.items():
        run.define_metric(metric, step_metric=x_axis, summary=f"last,{best}")
