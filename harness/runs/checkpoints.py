"""Checkpoints of a run: written whole, found again if they can be read, and what they hold."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import nn

from harness.disk.contents import in_units
from harness.disk.files import whole_file, writing
from harness.errors import RunError

UNFINISHED = ".unfinished"
DAMAGED = ".damaged"


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes checkpoints here: beside their place, and renamed when they are on the
    disk. The one before is removed after that, so there is always one that is whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, UNFINISHED) as draft, open(draft, "wb") as file:
            torch.save(checkpoint, file)


def newest_readable(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint with most steps behind it among those that can be read, None where there is
    none at all; and what is wrong with those that were passed over, each with its name.

    RunError if there are some and none can be read.
    """
    newest, passed_over = _newest(folder)
    return newest, list(passed_over.values())


def take_newest(folder: Path) -> tuple[Path | None, list[str]]:
    """`newest_readable` for a run that goes on from it and has the folder to itself: what a killed
    process had begun to write is removed, and what is damaged gets a name that is none of a
    checkpoint, as the run will write that one again.
    """
    newest, passed_over = _newest(folder)
    for draft in folder.glob(f".*{UNFINISHED}"):
        draft.unlink()
    for path in passed_over:
        path.rename(path.with_name(path.name + DAMAGED))
    return newest, list(passed_over.values())


def _newest(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    passed_over, steps = {}, {}
    for path in _checkpoints(folder):
        try:
            steps[path] = _steps(path)
        except RunError as error:
            passed_over[path] = str(error)
    latest_first = sorted(steps, key=lambda p: (steps[p], p.stat().st_mtime_ns), reverse=True)
    for path in latest_first:
        try:
            check_readable(path)
        except RunError as error:
            passed_over[path] = str(error)
        else:
            return path, passed_over
    if passed_over:
        raise RunError(
            f"{folder}: no checkpoint can be read. Put one back from a copy, or move these away to"
            " begin again:\n  " + "\n  ".join(passed_over.values())
        )
    return None, {}


def check_readable(path: Path) -> None:
    """RunError, with the name, unless a checkpoint is whole.

    torch writes a zip archive, in which every tensor and the values beside them have a CRC-32. It
    does not look at them when it reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
            # For what says that it is a folder torch gives memory that nothing was read into.
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr]
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zipfile has one for every field that makes no sense
        raise RunError(f"{path}: is damaged or cut short ({error})") from error
    if torn is not None or folders:
        raise RunError(f"{path}: is damaged ({torn or folders[0]} is not what was written)")
    _steps(path)


def find_checkpoint(folder: Path, wanted: str | None) -> Path:
    """The checkpoint of the run in `folder` with this name, the newest for None; RunError if it is
    not there or is damaged.
    """
    there = _checkpoints(folder / "checkpoints")
    if wanted is None and there:
        path, _ = newest_readable(folder / "checkpoints")
        return path
    for path in there:
        if wanted in (path.name, path.stem, str(path)):
            check_readable(path)
            return path
    if not there:
        exported = f"; {folder / 'model'} is its last policy" if (folder / "model").is_dir() else ""
        raise RunError(f"run={folder}: has no checkpoint to export{exported}")
    names = ", ".join(f"{path.stem} ({in_units(path.stat().st_size)})" for path in there)
    raise RunError(f"checkpoint={wanted}: {folder} has {names}")


def load_trained(model: nn.Module, checkpoint: Path) -> None:
    """Put the trained weights of a checkpoint into a policy and what of its critic is there;
    RunError if it lacks some.
    """
    state = _load(checkpoint)["state_dict"]
    prefix = "model."
    weights = {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix)}
    missing = {n for n, p in model.named_parameters() if p.requires_grad} - set(weights)
    if missing:
        raise RunError(f"{checkpoint}: lacks weights of the policy: {', '.join(sorted(missing))}")
    model.load_state_dict(weights, strict=False)


def steps_done(checkpoint: Path | None) -> int:
    """How many training steps (iterations of a policy) a checkpoint has behind it."""
    return 0 if checkpoint is None else _steps(checkpoint)


def steps_in(state: Mapping[str, Any]) -> int:
    """The same of what a checkpoint holds."""
    return state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ckpt") if not path.name.startswith("."))


def _steps(path: Path) -> int:
    try:
        state = _load(path)
        steps = steps_in(state)
        if not isinstance(steps, int) or not isinstance(state["state_dict"], Mapping):
            raise TypeError("it holds something else")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(f"{path}: is damaged, it is no checkpoint of a run ({why:.120})") from error
    return steps


def _load(path: Path) -> dict[str, Any]:
    """Tensors stay on the disk until they are used."""
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
