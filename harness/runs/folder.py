"""The folder of a run: made, found again, resumed."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from harness.errors import RunError
from harness.ranks import this_rank
from harness.runs.files import CONFIG, JOB, LOCK, OUTPUT, STATE, write_json
from harness.runs.identity import differences, identity, runs_like
from harness.runs.locks import acquire, is_held
from harness.runs.renamed import with_new_names

LEADER = "RLHF_LADDER_RUN"


@dataclass
class Run:
    """A run's folder and what is known of it from before."""

    folder: Path
    config: dict[str, Any]
    wandb_id: str
    lock: FileLock | None
    date: str  # what chat templates are told when they ask for it, kept when the run is resumed
    checkpoint: Path | None = None
    notes: list[str] = field(default_factory=list)  # on what was found damaged when it was resumed
    resumed: bool = False
    finished: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of this process."""
        return time.perf_counter() - self.started

    def release(self) -> None:
        """Let other processes have the folder."""
        if self.lock:
            self.lock.release()

    def save(self, finished: bool = False) -> None:
        """Write the state file, atomically."""
        self.finished = finished
        state = {
            "finished": finished,
            "wandb_id": self.wandb_id,
            "date": self.date,
            "config": self.config,
        }
        write_json(self.folder / STATE, state)


def open_run(cfg: DictConfig) -> Run:
    """The run that `cfg` asks for: a new one in Hydra's folder, or an earlier one to continue.

    Raises RunError if what is to be resumed is not there or was configured differently.
    """
    hydra_folder = Path(HydraConfig.get().runtime.output_dir)
    config = OmegaConf.to_container(cfg, resolve=True)
    if this_rank() > 0:
        return _join(config)
    folder = _folder_to_resume(cfg, hydra_folder, config)
    if folder is None:
        hydra_folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(hydra_folder)
        _make_room(hydra_folder)
        wandb_id = os.urandom(4).hex()
        run = Run(hydra_folder, config, wandb_id=wandb_id, lock=lock, date=today(config))
    else:
        run = _reopen(folder, config)
        if folder.resolve() != hydra_folder.resolve():
            _drop_empty(hydra_folder)
    os.environ[LEADER] = str(run.folder)  # for the processes that Lightning launches from here
    if not run.finished:
        run.save()
        (run.folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True))
    return run


def _folder_to_resume(cfg: DictConfig, hydra_folder: Path, config: dict) -> Path | None:
    if not cfg.resume:
        return None
    if cfg.resume != "auto":
        folder = Path(cfg.resume)
        if not (folder / STATE).is_file():
            raise RunError(f"resume={folder}: holds no run (there is no {STATE} in it)")
        return folder
    named = any(o.startswith("hydra.run.dir=") for o in HydraConfig.get().overrides.hydra)
    if named:
        return hydra_folder if (hydra_folder / STATE).is_file() else None
    runs = runs_like(config, hydra_folder.parent.glob(f"*/{STATE}"))
    free = [run for run, finished in runs if not finished and is_free(run)]
    return free[-1] if free else None


def _lock(folder: Path) -> FileLock:
    """Hold the folder while this process lives; the system lets go of it even after a kill."""
    try:
        return acquire(FileLock(folder / LOCK), blocking=False)
    except Timeout as error:
        raise RunError(f"{folder}: another process is running in it") from error


def is_free(folder: Path) -> bool:
    """Whether no live process has the folder."""
    return not is_held(folder / LOCK)


def _reopen(folder: Path, config: dict[str, Any]) -> Run:
    state = json.loads((folder / STATE).read_text())
    was = with_new_names(state["config"])
    differing = differences(identity(was), identity(config))
    grown = config["algo"].get("iterations", 0) > was["algo"].get("iterations", 0)
    if grown:
        differing.pop("algo.iterations", None)
    if differing:
        lines = [f"  {key}: {was!r} then, {now!r} now" for key, (was, now) in differing.items()]
        raise RunError(
            f"resume={folder}: this run was configured differently. Give it the same options, or"
            " start a new run:\n" + "\n".join(lines)
        )
    lock = _lock(folder)
    finished = state["finished"] and not grown
    checkpoint, notes = (None, []) if finished else _checkpoint(folder, alone=True)
    return Run(
        folder,
        config,
        wandb_id=state["wandb_id"],
        lock=lock,
        date=state.get("date") or today(config),
        checkpoint=checkpoint,
        notes=notes,
        resumed=True,
        finished=finished,
    )


def _join(config: dict[str, Any]) -> Run:
    """The run of the process that launched this one; it writes, and this one does not."""
    if LEADER not in os.environ:
        raise RunError("start several devices with `python run.py hardware=ddp`, not one by one")
    folder = Path(os.environ[LEADER])
    return Run(
        folder,
        config,
        "",
        lock=None,
        date=json.loads((folder / STATE).read_text())["date"],
        checkpoint=_checkpoint(folder, alone=False)[0],
    )


def _checkpoint(folder: Path, alone: bool) -> tuple[Path | None, list[str]]:
    """From where the run in `folder` goes on, and what is said of checkpoints that cannot be read;
    every rank takes the same one. `alone`: no other process is in the folder yet.
    """
    from harness.runs.checkpoints import newest_readable, take_newest  # torch takes seconds

    return (take_newest if alone else newest_readable)(folder / "checkpoints")


def today(config: Mapping[str, Any]) -> str:
    """The date of a run that begins now: `model.date`, or the date."""
    given = config.get("model", {}).get("date")
    return str(given) if given else date.today().isoformat()


def _make_room(folder: Path) -> None:
    """Set an earlier run in this folder aside; nothing is overwritten."""
    if not (folder / STATE).is_file():
        return
    number = 1
    while (aside := folder / f"earlier-{number}").exists():
        number += 1
    kept = (".hydra", LOCK, JOB, OUTPUT)
    entries = [p for p in folder.iterdir() if p.name not in kept and not p.match("earlier-*")]
    aside.mkdir()
    for entry in entries:
        entry.rename(aside / entry.name)


def _drop_empty(folder: Path) -> None:
    """Remove the folder that Hydra made for this process, as the run goes on in another."""
    if folder.is_dir() and {p.name for p in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder)
