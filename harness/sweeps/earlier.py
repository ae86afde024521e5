"""What earlier sweeps have done already of a job: a run of the same config on the same inputs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.disk.files import STATE, SUMMARY, read_json
from harness.disk.own_folders import is_free, wait_for
from harness.errors import RunError
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.runs.identity import Found, input_differences, runs_like
from harness.runs.secrets import kept
from harness.sweeps.sweep import job_in_hand


def earlier(cfg: DictConfig, folder: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder where this job's run is or shall be, and what the job will have been: skipped (it
    was finished), continued, or done (it is new). Waits for another process that is running it.
    """
    while True:
        runs = _same_runs(cfg, folder, say)
        if finished := [run.folder for run in runs if run.finished]:
            return finished[-1], "skipped"
        busy = [run.folder for run in runs if not is_free(run.folder)]
        if not busy:
            return (runs[-1].folder, "continued") if runs else (folder, "done")
        say(f"waits for another process, which has this run in hand: {busy[-1]}")
        wait_for(busy[-1])


def _same_runs(cfg: DictConfig, folder: Path, say: Callable[[str], None]) -> list[Found]:
    """Runs of the same config on the same inputs, the newest last; says what is left out."""
    notes: list[str] = []
    runs = runs_like(kept(cfg), _state_files(folder), notes)
    same = []
    if runs:
        made_of = inputs(cfg, Choices(cfg).source)
        for run in runs:
            if run.inputs is None:
                notes.append(f"left out: {run.folder} does not say of what inputs it was made")
            elif changed := input_differences(run.inputs, made_of):
                notes.append(f"left out: {run.folder} is on other inputs: {'; '.join(changed)}")
            elif not run.finished or _has_summary(run.folder, notes):
                same.append(run)
    for note in notes:
        say(note)
    return same


def _has_summary(run: Path, notes: list[str]) -> bool:
    try:
        if read_json(run / SUMMARY):
            return True
        notes.append(f"left out: {run / SUMMARY}: is damaged, it holds nothing")
    except RunError as error:
        notes.append(f"left out: {error}")
    return False


def _state_files(folder: Path) -> Iterator[Path]:
    """Of all runs in the sweeps beside this one; of this one alone if the user named its folder."""
    return files_of_jobs(folder, STATE, beside=not job_in_hand()["named"])


def files_of_jobs(folder: Path, name: str, beside: bool) -> Iterator[Path]:
    """Files of this name in the jobs of this sweep, or also of the sweeps beside it."""
    sweep = Path(os.path.abspath(HydraConfig.get().sweep.dir))
    levels = len(folder.relative_to(sweep).parts)
    root, levels = (sweep.parent, levels + 1) if beside else (sweep, levels)
    return root.glob("/".join(["*"] * levels + [name]))
