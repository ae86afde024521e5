"""rlhf-ladder: `python run.py algo=ppo model=llama`. See `python run.py --help`."""

import contextlib
import os
import sys
from pathlib import Path

# Threads of OpenMP that wait by spinning make two runs on one machine ten times slower than one.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from harness.disk.files import disk_trouble, refused
from harness.errors import USER_ERRORS
from harness.overrides import with_names_as_text
from harness.printable import PrintableStream, printable
from harness.ranks import settle
from harness.runs.command import with_options_of_runs
from harness.runs.own_folders import drop_if_empty
from harness.runs.renamed import refuse_old_names
from harness.streams import make_streams_last, refuse_names_without_letters, use_utf8
from harness.surroundings import find_places


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Compose, then call the chosen task. What the user can fix ends with one clear message."""
    settle()  # again, for the workers of a sweep
    find_places(Path(str(cfg.cache_dir)) / "libraries")
    with contextlib.redirect_stderr(sys.__stderr__):  # libraries' progress bars need control
        return run_task(cfg)


def run_task(cfg: DictConfig) -> float | None:
    """The chosen task, or a job of a sweep; returns what a sweeper shall improve."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from harness.sweeps.job import run_job

        return run_job(cfg)
    try:
        instantiate(cfg.task)(cfg)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, USER_ERRORS):
            trouble = disk_trouble(error)
            cause = trouble and refused(trouble, HydraConfig.get().runtime.output_dir)
        if not cause or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.exit(f"error: {printable(str(cause))}")
    finally:
        drop_if_empty(Path(HydraConfig.get().runtime.output_dir))  # of a command that was refused
    return None


if __name__ == "__main__":
    use_utf8()
    make_streams_last()
    try:
        settle()
        refuse_names_without_letters(sys.argv[1:])
        refuse_old_names(sys.argv[1:])
        sys.argv[1:] = with_names_as_text(with_options_of_runs(sys.argv[1:]))
    except USER_ERRORS as error:
        sys.exit(f"error: {printable(str(error))}")
    # Hydra's own errors repeat what was typed.
    with contextlib.redirect_stderr(PrintableStream(sys.stderr)):
        main()
