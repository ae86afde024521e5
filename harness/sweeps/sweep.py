"""A sweep as a whole, in the process that starts it: refused early, and reported at the end.

What a job does is in job.py. The two meet in job.json, one in every job's folder, so it does
not matter where a job ran, nor whether the sweep's own process lived to see its end.

Imported by Hydra before anything else, so nothing heavy is imported here.
"""

import atexit
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from harness.errors import RunError
from harness.runs.files import FAILED, JOB, SKIPPED, TRACEBACK, check_room, write_json

HAS_RESULT = ("done", "continued", "skipped")
# The beginnings of the names in summary.json.
FAMILIES = ("val", "reference", "rollout", "train", "time", "throughput", "data", "stages")


def update_job(folder: Path, **fields: Any) -> None:
    """Change what job.json says of the job in `folder`."""
    write_json(folder / JOB, json.loads((folder / JOB).read_text()) | fields)


def refusal(config: DictConfig) -> str | None:
    """Why `config` cannot be swept over, and what to do; None if it can."""
    hardware, objective = config.hardware, config.sweep.objective
    devices = OmegaConf.to_container(hardware).get("devices")
    alone = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if not alone or hardware.get("num_nodes", 1) != 1:
        return (
            f"hardware={hardware.name} with devices={devices}: a job of a sweep has one device."
            " For every further one Lightning would start the whole sweep again. Give"
            " hardware.devices=1, or let the shell go through the values:\n"
            f"  for seed in 1 2 3; do python run.py hardware={hardware.name} seed=$seed; done"
        )
    if objective is not None and str(objective).split("/")[0] not in FAMILIES:
        return (
            f"sweep.objective={objective}: must be a name from summary.json, such as val/score,"
            " val/gold or val/accuracy (docs/metrics.md)"
        )
    return None


class Sweep(Callback):
    """Hydra's callback for this: `hydra.callbacks.sweep` in conf/config.yaml."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra writes the run's folder before anything of ours is called."""
        try:
            check_room(Path(config.hydra.run.dir))
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Stop at once if no job can run. Hydra only warns of exceptions here, so: exit."""
        if reason := refusal(config):
            print(f"error: {reason}", file=sys.stderr)
            sys.exit(1)
        self.id = uuid.uuid4().hex
        self.process = os.getpid()
        self.folder = Path(os.path.abspath(config.hydra.sweep.dir))
        self.objective = config.sweep.objective
        self.reported = False
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # no job's line is like another's
        atexit.register(self._report)  # if the sweep does not reach its end

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the job's process: whose job it is. What an earlier attempt left is out of date."""
        if not hasattr(self, "id"):  # no sweep
            return
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        for name in (FAILED, SKIPPED, TRACEBACK):
            (folder / name).unlink(missing_ok=True)
        job = {
            "sweep": self.id,
            "parent": self.process,
            "number": hydra.job.num,
            "status": "stopped",
            "run": str(folder),
            "overrides": list(hydra.overrides.task),
            "value": None,
        }
        write_json(folder / JOB, job)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say what became of every job; exit with 1 unless all that was asked for is there."""
        if not self._report():
            sys.exit(1)

    def _report(self) -> bool:
        """Print the table, once; returns whether every job has its result."""
        files = (json.loads(file.read_text()) | {"folder": file.parent} for file in self._files())
        jobs = sorted(
            (job for job in files if job["sweep"] == self.id), key=lambda job: job["number"]
        )
        if jobs and not self.reported:
            print_table(jobs, self.objective, self.folder)
        self.reported = True
        atexit.unregister(self._report)
        return all(job["status"] in HAS_RESULT for job in jobs)

    def _files(self) -> list[Path]:
        return list(self.folder.rglob(JOB)) if self.folder.is_dir() else []


def print_table(jobs: list[dict[str, Any]], objective: str | None, sweep: Path) -> None:
    """The jobs of a sweep, one a row; then the errors, and what to do next."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    table = Table(title=f"jobs of {sweep}")
    for name in ("job", "options", "status", objective or "", "folder"):
        table.add_column(name, overflow="fold")
    shared = set.intersection(*(set(job["overrides"]) for job in jobs)) if len(jobs) > 1 else set()
    for job in jobs:
        value = "" if job["value"] is None else f"{job['value']:.4f}"
        table.add_row(
            str(job["number"]),
            escape(" ".join(o for o in job["overrides"] if o not in shared)),
            job["status"],
            value,
            escape(job["folder"].name),
        )
    console.print(table)
    for job in jobs:
        if line := _explanation(job):
            console.print(f"job {job['number']} {line}", markup=False, soft_wrap=True)
    if any(job["status"] not in HAS_RESULT for job in jobs):
        console.print("The same command again does what is missing, and nothing twice.")


def _explanation(job: dict[str, Any]) -> str | None:
    """What the table has no room for."""
    if job["status"] == "failed":
        failed = json.loads((job["folder"] / FAILED).read_text())
        return f"failed: {failed['error']}\n  see {job['folder']}"
    if job["status"] == "stopped":
        return f"was stopped before its end; see {job['folder']}"
    if job["status"] == "running":
        return f"is still being run by another process, in {job['run']}"
    if job["run"] != str(job["folder"]):
        how = "was finished before" if job["status"] == "skipped" else "was continued"
        return f"{how}: {job['run']}"
    return None
