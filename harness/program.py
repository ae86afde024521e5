"""The program: `rlhf-ladder` and `python run.py` on a command line, `run(...)` from Python."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# Threads of OpenMP that wait by spinning make two runs on one machine ten times slower than one.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from harness.command_line.arguments import help_asked, look_through
from harness.disk.files import user_error
from harness.disk.own_folders import drop_if_empty
from harness.errors import USER_ERRORS, OptionError
from harness.overrides import means_multirun, with_names_as_text
from harness.printable import PrintableStream, say
from harness.ranks import has_one_device, settle
from harness.runs.provenance import project_version
from harness.runs.renamed import refuse_old_names
from harness.signals import Stopped, listen, stop_behind
from harness.streams import make_streams_last, refuse_names_without_letters, use_utf8
from harness.surroundings import find_places

CONFIGS = Path(__file__).parents[1] / "conf"


def main() -> None:
    """The command line. What the user can fix ends with one clear message and exit code 1; SIGTERM
    and ctrl-c end what was begun with one line and 143 or 130.
    """
    try:
        _main()
    except Stopped as stop:
        if not stop.told:
            say(stop.line())
        raise


def _main() -> None:
    use_utf8()
    make_streams_last()
    if "--version" in sys.argv[1:]:
        print(f"rlhf-ladder {project_version()}")
        return
    try:
        sys.argv[1:] = _as_hydra_reads_them(sys.argv[1:])
        if (text := help_asked(sys.argv[1:])) is not None:
            print(text)
            return
    except USER_ERRORS as error:
        _end(error)
    # Hydra's own errors repeat what was typed.
    with contextlib.redirect_stderr(PrintableStream(sys.stderr)):
        _call_composed(run_for_command_line)


def run(*overrides: str) -> Any:
    """Do in this process what the command line does with these overrides, and return what came of
    it: `summary = run("algo=ppo", "model=llama", "seed=1")`.

    A training and an evaluation return their summary: what is in summary.json of the run's folder,
    `summary["folder"]`. Raises OptionError, DataError, ModelError or RunError where the command
    line ends with such a message.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise OptionError(f'{override!r}: run() takes texts: run("algo=ppo", "seed=1")')
        if means_multirun(override):
            raise OptionError("run() does one run: go through the values of a sweep in a loop")
        if override.startswith("-"):
            raise OptionError(f"{override}: run() takes options, name=value, and no flags")
    done: list[Any] = []
    refusals: list[Exception] = []

    def task(cfg: DictConfig) -> None:
        try:
            done.append(run_task(cfg, one_device=True))
        except USER_ERRORS as error:  # past Hydra, which would print that it was there
            refusals.append(error)

    before = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    try:
        sys.argv[1:] = _as_hydra_reads_them(overrides)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and does not end the process
        _call_composed(task)
    finally:
        sys.argv[:] = before[0]
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
    if refusals:
        raise refusals[0]
    return done[0]


def run_for_command_line(cfg: DictConfig) -> float | None:
    """The chosen task, or a job of a sweep; returns what a sweeper shall improve."""
    with contextlib.redirect_stderr(sys.__stderr__):  # libraries' progress bars need control
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            settle()  # again, for a worker
            find_places(Path(str(cfg.cache_dir)) / "libraries")
            from harness.sweeps.job import run_job

            return run_job(cfg)
        listen()
        try:
            run_task(cfg)
        except USER_ERRORS as error:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            _end(error)
    return None


def run_task(cfg: DictConfig, *, one_device: bool = False) -> Any:
    """What the chosen task returns. Raises one of USER_ERRORS for what the user can fix.

    `one_device`: more are refused, as Lightning would start the user's own script once more each.
    """
    find_places(Path(str(cfg.cache_dir)) / "libraries")
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if one_device and not has_one_device(cfg):
            raise OptionError("run() takes one device: give hardware.devices=1")
        return instantiate(cfg.task)(cfg)
    except Exception as error:
        if stop := stop_behind(error):
            raise stop from None
        if cause := user_error(error, folder):
            raise cause from error
        raise
    finally:
        drop_if_empty(folder)  # of a command that was refused


def _end(error: Exception) -> NoReturn:
    say(f"error: {error}", sys.stderr)
    sys.exit(1)


def _as_hydra_reads_them(arguments: Sequence[str]) -> list[str]:
    """What was typed, for Hydra's grammar. Raises one of USER_ERRORS for what cannot be meant."""
    settle()
    refuse_names_without_letters(arguments)
    refuse_old_names(arguments)
    return look_through(with_names_as_text(arguments))


def _call_composed(task: Callable[[DictConfig], Any]) -> None:
    """Call `task` with the config that sys.argv asks for: Hydra reads it there."""
    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(task)()
