"""The loggers of one training: metrics.csv always, and a tracker if there is one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from harness.ranks import this_rank
from harness.runs.folder import Run
from harness.tracking.metrics_csv import MetricsCsv
from harness.tracking.names import default_group, run_name, swept_overrides
from harness.tracking.tracker import trackers


@contextmanager
def tracked(
    cfg: DictConfig,
    run: Run,
    folder: Path,
    job_type: str,
    *,
    is_run: bool = False,
    x_axis: str | None = None,
    keep_steps: int = 0,
) -> Iterator[list[Logger]]:
    """Loggers for one training of `run`: metrics.csv in `folder`, and a W&B run of its own that is
    finished whatever happens. `is_run` for the main job, whose W&B run can be resumed; without it,
    for a stage of the run. Processes of other ranks get none.
    """
    if this_rank() > 0:
        yield []
        return
    loggers: list[Logger] = [MetricsCsv(folder / "metrics.csv", keep_steps)]
    if "_target_" in cfg.logger:
        overrides = swept_overrides(run.folder) if is_run else ()
        make = instantiate(cfg.logger, _partial_=True)
        tracker = make(
            # Offline files of a stage stay with the run: its folder is renamed later.
            folder=run.folder,
            run_name=run_name(run.config, job_type, overrides),
            job_type=job_type,
            run_id=run.wandb_id if is_run else None,
            default_group=default_group(run.folder),
            x_axis=x_axis,
            config=run.config,
            metrics=folder / "metrics.csv",
        )
        loggers += [tracker] if tracker else []
    try:
        yield loggers
    finally:
        for tracker in trackers(loggers):
            tracker.finish()
