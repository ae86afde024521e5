"""One job of a sweep: found again if an earlier sweep had it, and never the end of the others."""

import contextlib
import difflib
import functools
import io
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, read_write

from harness.disk.files import (
    FAILED,
    JOB,
    JOB_LOCK,
    OUTPUT,
    SKIPPED,
    SUMMARY,
    TRACEBACK,
    read_json,
    user_error,
    write_json,
    write_text,
    writing,
)
from harness.disk.own_folders import try_to_hold, with_numbers
from harness.durations import duration
from harness.errors import RunError
from harness.printable import printable, say
from harness.runs.secrets import without_secrets
from harness.signals import finish_first, is_stopping, listen, stop_behind
from harness.streams import make_streams_last
from harness.sweeps.earlier import earlier, files_of_jobs
from harness.sweeps.sweep import hide_secrets, job_in_hand, refusal, update_job

# Of a summary, what is said when a job is done.
TOLD = ("val/gold", "val/win_rate", "val/kl", "val/accuracy", "val/thumbs_auc")
_IN_HAND = threading.Lock()


def run_job(cfg: DictConfig) -> float | None:
    """Run `cfg.task` as a job of a sweep; returns its objective.

    An error is written into the job's folder and ends this job only: where values are only gone
    through, the job returns nan; a sweeper that optimises is given a RunError, a failed trial.
    """
    make_streams_last()  # this may be a launcher's own process
    hydra, record = HydraConfig.get(), job_in_hand()
    with _IN_HAND:
        listen()
        if _is_worker():
            _end_as_orphan(record["parent"])
            if is_stopping():
                return math.nan
        else:
            finish_first(None)
        try:
            folder, lock = _own_job_folder(Path(hydra.runtime.output_dir), record)
        except RunError as error:  # there is no place for its record: the sweep cannot tell of it
            _say(f"failed: {error}")
            sys.exit(1)
        try:
            hide_secrets(Path(hydra.sweep.dir) / "multirun.yaml", cfg)
            # What an earlier attempt left is out of date.
            for name in (FAILED, SKIPPED, TRACEBACK):
                (folder / name).unlink(missing_ok=True)
            write_json(folder / JOB, record | {"run": str(folder)})
            return _run_job(cfg, folder)
        finally:
            lock.release()


def _own_job_folder(wanted: Path, record: dict[str, Any]) -> tuple[Path, FileLock]:
    """The folder of this job, held. Another one than Hydra's where that is taken: by a worker that
    outlived its sweep, or by another job of this sweep, whose name is the same.
    """
    for folder in with_numbers(wanted):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = try_to_hold(folder, JOB_LOCK)
        if lock is None:
            continue
        if _is_of_another(folder, record):
            lock.release()
            continue
        runtime = HydraConfig.get().runtime
        with read_write(runtime):
            runtime.output_dir = str(folder)
        return folder, lock
    raise AssertionError("numbers do not end")


def _is_of_another(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the folder has what another job of this very sweep has done."""
    try:
        there = read_json(folder / JOB)
    except RunError:  # none, or damaged: of no job of this sweep
        return False
    return there.get("sweep") == record["sweep"] and there.get("number") != record["number"]


@functools.cache
def _end_as_orphan(parent: int) -> None:
    """End this worker, between two jobs, once the process that started it is gone: joblib's would
    wait for more work for ever, and hold its memory.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        with _IN_HAND:
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _run_job(cfg: DictConfig, folder: Path) -> float | None:
    started = time.perf_counter()
    _say(f"starts in {folder}")
    try:
        with _output(folder):
            result = _run(cfg, folder)
        value = _objective(cfg.sweep.objective, result)
        update_job(folder, value=None if value is None or math.isnan(value) else value)
    except (Exception, SystemExit) as error:
        if stop := stop_behind(error):
            if not _is_worker():
                raise stop from None
            return _without_value(f"stopped by {stop.name}")
        return _without_value(f"failed: {_write_failure(cfg, folder, error)}")
    told = {} if value is None else {cfg.sweep.objective: value}
    told |= {name: result[name] for name in TOLD if name in result}
    numbers = "".join(f", {name} {_short(number)}" for name, number in told.items())
    _say(f"done in {duration(time.perf_counter() - started)}{numbers}")
    return value


def _is_worker() -> bool:
    """Whether this process is one of joblib's; for one job at a time it starts none."""
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    return launcher == "joblib" and job_in_hand()["parent"] != os.getpid()


def _short(number: float | None) -> str:
    return "none" if number is None else f"{number:.4f}"


def _without_value(text: str) -> float:
    _say(text)
    if _optimised():
        raise RunError(text)  # plain text: it has to travel between processes
    return math.nan


def _run(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """What the task returns, or has returned in a run like this one."""
    if reason := refusal(cfg):
        raise RunError(reason)
    run, status = earlier(cfg, folder, _say) if cfg.sweep.resume else (folder, "done")
    update_job(folder, run=str(run))
    if run.resolve() != folder.resolve():
        write_json(folder / SKIPPED, {"run": str(run), "status": status})
    if status == "skipped":
        result = read_json(run / SUMMARY)
    else:
        _check_objective(cfg, folder)
        if status == "continued":
            cfg.resume = str(run)
        result = instantiate(cfg.task)(cfg)
    update_job(folder, status=status)
    return result or {}


def _check_objective(cfg: DictConfig, folder: Path) -> None:
    """Raise RunError if a finished job of this sweep shows that all training would be in vain."""
    if not _optimised():
        return
    alike = {"algo": cfg.algo.name, "data": cfg.data.name}
    for file in files_of_jobs(folder, SUMMARY, beside=False):
        try:
            summary = read_json(file)
        except RunError:  # of another job, and no matter of this one
            continue
        if summary.items() >= alike.items():
            _objective(cfg.sweep.objective, summary)


def _objective(name: str | None, result: dict[str, Any]) -> float | None:
    """The value that a sweeper shall improve; None for one that only goes through values."""
    if name in result:
        return math.nan if result[name] is None else float(result[name])
    if not _optimised():
        return None
    near = ", ".join(difflib.get_close_matches(str(name), result, n=3, cutoff=0.3))
    raise RunError(
        f"sweep.objective={name}: summary.json has no such name. Near it: {near or 'none'}."
        " With another objective the runs that are finished are used again"
    )


def _optimised() -> bool:
    """Whether the sweeper wants a value of every job."""
    return HydraConfig.get().runtime.choices["hydra/sweeper"] != "basic"


def _write_failure(cfg: DictConfig, folder: Path, error: BaseException) -> str:
    """failed.json and the traceback; returns the message of one line or few."""
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    known = user_error(error, folder)
    text = str(known) if known else f"{type(cause).__name__}: {cause}"
    text = without_secrets(text, cfg)
    details = without_secrets("".join(traceback.format_exception(error)), cfg)
    try:
        write_text(folder / TRACEBACK, printable(details))
        write_json(folder / FAILED, {"error": text, "overrides": job_in_hand()["overrides"]})
        update_job(folder, status="failed", error=text)
    except RunError as also:  # on a full disk
        _say(str(also))
    return text


class JobOutput(io.TextIOBase):
    """Where a process that runs one job after another prints: into the file of the job in hand.

    Libraries that are imported within a job hold on to the stream for their log messages.
    """

    file: TextIO | None = None

    def write(self, text: str) -> int:
        return (self.file or sys.__stderr__).write(text)

    def flush(self) -> None:
        (self.file or sys.__stderr__).flush()


_JOB_OUTPUT = JobOutput()


@contextlib.contextmanager
def _output(folder: Path) -> Iterator[None]:
    """Where jobs run side by side, what they print goes into a file each."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
        yield
        return
    with (
        open(folder / OUTPUT, "a", 1, "utf-8", "backslashreplace") as _JOB_OUTPUT.file,
        contextlib.redirect_stdout(_JOB_OUTPUT),
        contextlib.redirect_stderr(_JOB_OUTPUT),
    ):
        try:
            yield
        finally:
            _JOB_OUTPUT.file = None


def _say(text: str) -> None:
    say(f"job {HydraConfig.get().job.num} {text}")
