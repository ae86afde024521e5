"""A sweep as a whole, in the process that starts it: refused early, and reported at the end.

What a job does is in job.py. The two meet in job.json, one in every job's folder, so it does
not matter where a job ran, nor whether the sweep's own process lived to see its end.

Imported by Hydra before anything else, so nothing heavy is imported here.
"""

import atexit
import importlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from harness.disk.files import JOB, read_json, write_json, write_text
from harness.disk.own_folders import hold, is_named, make_own
from harness.errors import RunError
from harness.printable import say
from harness.ranks import has_one_device
from harness.runs.command import typed_overrides
from harness.runs.secrets import without_secrets
from harness.signals import may_stop, stop_workers_first
from harness.surroundings import prepare_workers
from harness.typed import from_here, program, quoted

HAS_RESULT = ("done", "continued", "skipped")
# The beginnings of the names in summary.json.
FAMILIES = ("val", "reference", "rollout", "train", "time", "throughput", "data", "stages")


# Of the job that this process has in hand: what on_job_start says of it.
_in_hand: dict[str, Any] = {}


def job_in_hand() -> dict[str, Any]:
    """The first record of the job that runs in this process: whose it is, what was asked for."""
    return dict(_in_hand)


def update_job(folder: Path, **fields: Any) -> None:
    """Change what job.json says of the job in `folder`, which this process holds."""
    write_json(folder / JOB, read_json(folder / JOB) | fields)


def hide_secrets(file: Path, cfg: DictConfig) -> None:
    """Take the secrets of a job's config out of what Hydra wrote of its sweep."""
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        if (hidden := without_secrets(text, cfg)) != text:
            write_text(file, hidden)


def refusal(config: DictConfig) -> str | None:
    """Why `config` cannot be swept over, and what to do; None if it can."""
    hardware, objective = config.hardware, config.sweep.objective
    if not has_one_device(config):
        return (
            f"hardware={hardware.name} with devices={hardware.get('devices')}: a job of a sweep has"
            " one device. For every further one Lightning would start the whole sweep again. Give"
            " hardware.devices=1, or let the shell go through the values:\n"
            f"  for seed in 1 2 3; do {program()} hardware={hardware.name} seed=$seed; done"
        )
    if objective is not None and str(objective).split("/")[0] not in FAMILIES:
        return (
            f"sweep.objective={objective}: must be a name from summary.json, such as val/score,"
            " val/gold or val/accuracy (docs/metrics.md)"
        )
    return None


class Sweep(Callback):
    """Hydra's callback for this: `hydra.callbacks.sweep` in conf/config.yaml."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Stop at once if no job can run. Hydra only warns of exceptions here, so: exit."""
        if reason := refusal(config):
            say(f"error: {reason}", sys.stderr)
            sys.exit(1)
        # What the table needs, as nothing can be imported any more where a dying process reports.
        importlib.import_module("harness.reports.console")
        self.id = uuid.uuid4().hex
        self.process = os.getpid()
        self.named = is_named(config.hydra.overrides.hydra, "sweep")
        self.folder = make_own(config, "sweep")
        self.lock = self._hold()
        if not self.named:  # the jobs compose their configs anew
            with read_write(config.hydra.overrides.hydra):
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(self.folder))}")
        self.objective = config.sweep.objective
        self.reported = False
        prepare_workers()
        if config.hydra.runtime.choices["hydra/launcher"] == "joblib":
            stop_workers_first()
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # no job's line is like another's
        atexit.register(self._report)  # if the sweep does not reach its end

    def _hold(self) -> Any:
        try:
            return hold(self.folder)
        except RunError as error:
            say(f"error: {error}; name another one with hydra.sweep.dir=...", sys.stderr)
            sys.exit(1)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to the processes of jobs: the lock stays with the sweep's own."""
        return self.__dict__ | {"lock": None}

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In the job's process: whose job it is."""
        if not hasattr(self, "id"):  # no sweep
            return
        hydra = HydraConfig.get()
        _in_hand.clear()
        _in_hand.update(
            {
                "sweep": self.id,
                "named": self.named,
                "parent": self.process,
                "number": hydra.job.num,
                "status": "stopped",
                "overrides": typed_overrides(),
                "value": None,
            }
        )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say what became of every job; exit with 1 unless all that was asked for is there."""
        complete = self._report()
        may_stop()
        if not complete:
            sys.exit(1)

    def _report(self) -> bool:
        """Print the table, once; returns whether every job has its result."""
        jobs = sorted(self._jobs(), key=lambda job: job["number"])
        if jobs and not self.reported:
            print_table(jobs, self.objective, self.folder)
        self.reported = True
        atexit.unregister(self._report)
        return all(job["status"] in HAS_RESULT for job in jobs)

    def _jobs(self) -> Iterator[dict[str, Any]]:
        """The records of this sweep's jobs; in a folder that was named there may be others."""
        for file in self.folder.rglob(JOB):
            try:
                job = read_json(file)
            except RunError:  # of an earlier sweep: this one's were written whole
                continue
            if job.get("sweep") == self.id:
                yield job | {"folder": file.parent}


def print_table(jobs: list[dict[str, Any]], objective: str | None, sweep: Path) -> None:
    """The jobs of a sweep, one a row; then the errors, and what to do next."""
    from harness.reports.console import make_console
    from harness.reports.plain_console import WHOLE, line
    from harness.reports.word_table import WordTable

    console = make_console(alone=True)
    table = WordTable(title=line("jobs of ", (from_here(sweep), WHOLE)))
    for name in ("job", "options and folder", "status", objective or ""):
        table.add_column(name)
    shared = set.intersection(*(set(job["overrides"]) for job in jobs)) if len(jobs) > 1 else set()
    for job in jobs:
        value = "" if job["value"] is None else f"{job['value']:.4f}"
        table.add_row(
            str(job["number"]),
            f"{' '.join(o for o in job['overrides'] if o not in shared)}\n{job['folder'].name}",
            job["status"],
            value,
        )
    console.print(table)
    for job in jobs:
        if told := _explanation(job):
            console.print(line(f"job {job['number']} ", *told))
    if any(job["status"] not in HAS_RESULT for job in jobs):
        console.print("The same command again does what is missing, and nothing twice.")


def _explanation(job: dict[str, Any]) -> list[Any]:
    """What the table has no room for, as parts of a line."""
    folder = (from_here(job["folder"]), "whole")
    if job["status"] == "failed":
        return [f"failed: {job['error']}\n  see ", folder]
    if job["status"] == "stopped":
        return ["was stopped before its end; see ", folder]
    if job["run"] != str(job["folder"]):
        how = "was finished before" if job["status"] == "skipped" else "was continued"
        return [f"{how}: ", (from_here(job["run"]), "whole")]
    return []
