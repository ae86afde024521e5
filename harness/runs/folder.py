"""The folder of a run: made, found again, resumed."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from harness.disk.files import CONFIG, JOB, JOB_LOCK, LOCK, OUTPUT, STATE, write_json, write_text
from harness.disk.own_folders import drop_if_empty, hold, is_free, is_named
from harness.errors import RunError
from harness.ranks import LEADER, this_rank
from harness.runs.command import keep_command
from harness.runs.foreign import refuse_links
from harness.runs.identity import (
    FOR_THE_MACHINE,
    differences,
    identity,
    input_differences,
    read_state,
    runs_like,
)
from harness.runs.nearby import require_run, why_nothing
from harness.runs.renamed import with_new_names
from harness.runs.secrets import kept
from harness.runs.used_stages import link
from harness.typed import program

Inputs = dict[str, Any]


@dataclass
class Run:
    """A run's folder and what is known of it from before."""

    folder: Path
    config: dict[str, Any]
    wandb_id: str
    lock: FileLock | None
    date: str  # what chat templates are told when they ask for it, kept when the run is resumed
    inputs: Inputs | None = None  # what it was made of when it began
    checkpoint: Path | None = None
    resumed: bool = False
    finished: bool = False
    changed: list[str] = field(default_factory=list)  # inputs that it went on without
    stages: dict[str, str] = field(default_factory=dict)  # fingerprints, by name
    notes: list[str] = field(default_factory=list)  # for the user
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
            "inputs": self.inputs,
            "changed": self.changed,
            "stages": self.stages,
            "config": self.config,
        }
        write_json(self.folder / STATE, state)

    def link(self, name: str, target: Path) -> None:
        """A link in the folder to a model that the run uses, for people."""
        if self.lock is not None:  # the run of this process
            link(self.folder, name, target)

    def require_stage(self, name: str, mark: str) -> None:
        """Write down with which stage the run goes on; `mark` is its fingerprint.

        RunError if it was trained with another one, as after a change of the code or of a library.
        """
        if self.lock is None:  # of another rank, or no run of its own
            return
        was = self.stages.get(name, mark)
        if was != mark and self.checkpoint:
            what = f"{name}: was stage {was}, is {mark} now (other code, libraries or machine)"
            self._require_agreement([what])
        if self.stages.get(name) != mark:
            self.stages[name] = mark
            self.save()

    def _require_agreement(self, changed: list[str]) -> None:
        """RunError unless the user wants to go on with inputs that have changed."""
        if not changed:
            return
        if not self.config.get("resume_anyway"):
            raise RunError(
                f"resume={self.folder}: what this run was made of is not what it was. Put it back,"
                " start a new run, or go on all the same with resume_anyway=true, which the"
                " summary will say:\n" + "\n".join(f"  {what}" for what in changed)
            )
        self.changed += [what for what in changed if what not in self.changed]
        self.notes += [f"resume_anyway: {what}" for what in changed]


def open_run(cfg: DictConfig, inputs: Callable[[], Inputs], to: Path | None = None) -> Run:
    """The run that `cfg` asks for: a new one in Hydra's folder, or an earlier one to continue.

    `inputs` tells what it is made of now. `to` is the folder to use in the place of Hydra's; a run
    that is there already is the one to continue. Raises RunError if what is to be resumed is not
    there, or was configured differently or made of something else.
    """
    hydra_folder = Path(HydraConfig.get().runtime.output_dir)
    config = kept(cfg)
    if this_rank() > 0:
        return _join(config)
    made_of = inputs()
    notes: list[str] = []
    if to is not None:
        folder = to if (to / STATE).is_file() else None
    else:
        folder = _folder_to_resume(cfg, hydra_folder, config, made_of, notes)
    if folder is None:
        run = _begin(to or hydra_folder, cfg, config, made_of)
    else:
        run = _reopen(folder, config, made_of)
        if folder.resolve() != hydra_folder.resolve():
            drop_if_empty(hydra_folder)
    run.notes[:0] = notes
    os.environ[LEADER] = str(run.folder)  # for the processes that Lightning launches from here
    if not run.finished:
        run.save()
        write_text(run.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    return run


def _folder_to_resume(
    cfg: DictConfig, hydra_folder: Path, config: dict, made_of: Inputs, notes: list[str]
) -> Path | None:
    if not cfg.resume:
        return None
    if cfg.resume != "auto":
        folder = Path(cfg.resume).expanduser()
        require_run("resume", folder)
        return folder
    if is_named(HydraConfig.get().overrides.hydra, "run"):
        if (hydra_folder / STATE).is_file():
            return hydra_folder
        notes.append(f"resume=auto: {hydra_folder} holds no run yet; this one begins anew")
        return None
    states = list(hydra_folder.parent.glob(f"*/{STATE}"))
    for run in reversed(runs_like(config, states, notes)):
        if run.finished or not is_free(run.folder):
            continue
        changed = input_differences(run.inputs, made_of)
        if not changed or cfg.resume_anyway:
            return run.folder
        notes.append(f"not resumed: {run.folder} is like this run, but {'; '.join(changed)}")
    notes.append(
        f"resume=auto: nothing in {hydra_folder.parent} to go on with, so this run begins anew;"
        f" {why_nothing(config, states)}"
    )
    return None


def _begin(folder: Path, cfg: DictConfig, config: dict[str, Any], made_of: Inputs) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold(folder)
    _make_room(folder)
    keep_command(folder, cfg)
    wandb_id = os.urandom(4).hex()
    return Run(folder, config, wandb_id, lock, date=today(config), inputs=made_of)


def _reopen(folder: Path, config: dict[str, Any], made_of: Inputs) -> Run:
    refuse_links(folder)
    lock = hold(folder)  # before anything is read that another process may change
    try:
        return _checked(folder, config, made_of, lock)
    except BaseException:
        lock.release()
        raise


def _checked(folder: Path, config: dict[str, Any], made_of: Inputs, lock: FileLock) -> Run:
    state = read_state(folder / STATE)
    was = with_new_names(state["config"])
    places = state.get("inputs") is None
    differing = differences(identity(was, places=places), identity(config, places=places))
    grown = _grown(was, config)
    for option in (*FOR_THE_MACHINE, *grown):
        differing.pop(option, None)
    if differing:
        lines = [f"  {key}: {was!r} then, {now!r} now" for key, (was, now) in differing.items()]
        raise RunError(
            f"resume={folder}: this run was configured differently. Give it the same options, or"
            " start a new run:\n" + "\n".join(lines)
        )
    run = Run(
        folder,
        config,
        wandb_id=state["wandb_id"],
        lock=lock,
        date=state.get("date") or today(config),
        inputs=state.get("inputs"),
        resumed=True,
        finished=state["finished"] and not grown,
        changed=list(state.get("changed") or []),
        stages=dict(state.get("stages") or {}),
    )
    run._require_agreement(input_differences(run.inputs, made_of))
    if not run.finished:
        run.checkpoint, notes = _checkpoint(folder, alone=True)
        run.notes += notes
    return run


def _grown(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The option by which a run is to go on beyond its end: its rounds or its iterations."""
    if "rounds" in was:
        return ["rounds"] if now.get("rounds", 0) > was["rounds"] else []
    more = now["algo"].get("iterations", 0) > was["algo"].get("iterations", 0)
    return ["algo.iterations"] if more else []


def _join(config: dict[str, Any]) -> Run:
    """The run of the process that launched this one; it writes, and this one does not."""
    if LEADER not in os.environ:
        raise RunError(f"start several devices with `{program()} hardware=ddp`, not one by one")
    folder = Path(os.environ[LEADER])
    return Run(
        folder,
        config,
        "",
        lock=None,
        date=read_state(folder / STATE)["date"],
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
    stay = (LOCK, JOB, JOB_LOCK, OUTPUT)
    entries = [p for p in folder.iterdir() if p.name not in stay and not p.match("earlier-*")]
    aside.mkdir()
    for entry in entries:
        if entry.is_symlink():
            link(aside, entry.name, entry.resolve())
            entry.unlink()
        else:
            entry.rename(aside / entry.name)
