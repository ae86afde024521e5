"""What a process finds around it: a user without name or home, folders that cannot be written.

Libraries keep files in places of their own. Where such a place cannot be written it is put below
the run's cache; people's usual caches stay where they are.
"""

import contextlib
import getpass
import os
import tempfile
from pathlib import Path

from harness.errors import RunError

SAFE = "of a sweep"  # any text will do


def require_writable(folder: Path, option: str) -> None:
    """Raise RunError unless files can be made in `folder`, or it and then files. Leaves nothing."""
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise RunError(
            f"{option}={folder}: {place} is no folder; give {option}=<a folder that can be written>"
        )
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise RunError(
            f"{option}={folder}: nothing can be written in {place} ({error.strerror or error});"
            f" give {option}=<a folder that can be written>"
        ) from error


def prepare_workers() -> None:
    """Let the processes that a sweep starts from here find this project, and let no file such as
    ./types.py of the folder where they start take the place of Python's own.
    """
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [*filter(None, known), str(Path(__file__).parents[1])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    os.environ.setdefault("PYTHONSAFEPATH", SAFE)


def find_places(below: Path) -> None:
    """Point libraries to folders below `below` where their usual ones cannot be written.

    To be called before they are imported: some look for their folder then.
    """
    below = Path(os.path.abspath(below))
    if os.environ.get("PYTHONSAFEPATH") == SAFE:  # it was for this process, and not for others
        del os.environ["PYTHONSAFEPATH"]
    try:
        getpass.getuser()
    except (KeyError, OSError):  # no such user, and no variable that names one
        os.environ["USER"] = f"user{os.getuid()}"
    _find_temporary(below)
    home = os.path.expanduser("~")
    if home == "~" or not (os.path.isdir(home) or _can_write(Path(home))):
        os.environ["HOME"] = str(_made(below / "home"))
    for name, usual in _usual().items():
        place = Path(os.environ.get(name) or usual).expanduser()
        # What is there already can be read: models that somebody put into a shared cache.
        if not (_can_write(place) or (name == "HF_HUB_CACHE" and place.is_dir())):
            os.environ[name] = str(_made(below / name.lower()))


def _usual() -> dict[str, Path]:
    """Where libraries keep files, by the variables that say so."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    hugging_face = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    temporary = Path(tempfile.gettempdir())
    return {
        "HF_HUB_CACHE": hugging_face / "hub",
        "HF_DATASETS_CACHE": hugging_face / "datasets",
        "HF_MODULES_CACHE": hugging_face / "modules",
        "HF_ASSETS_CACHE": hugging_face / "assets",
        "HF_XET_CACHE": hugging_face / "xet",
        "WANDB_CACHE_DIR": cache / "wandb",
        "WANDB_CONFIG_DIR": config / "wandb",
        "WANDB_DATA_DIR": data / "wandb",
        "MPLCONFIGDIR": cache / "matplotlib",
        "TORCHINDUCTOR_CACHE_DIR": temporary / f"torchinductor_{getpass.getuser()}",
        "TRITON_CACHE_DIR": Path(os.environ.get("TRITON_HOME") or "~") / ".triton" / "cache",
        "NUMBA_CACHE_DIR": cache / "numba",
    }


def _find_temporary(below: Path) -> None:
    """A folder for temporary files, for libraries too that look at TMPDIR alone."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:
        place = tempfile.tempdir = str(_made(below / "tmp"))
    if "TMPDIR" in os.environ or place != "/tmp":
        os.environ["TMPDIR"] = place


def _can_write(place: Path) -> bool:
    """Whether `place` is a folder that can be written, or can be made as one."""
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _made(folder: Path) -> Path:
    """The folder, made if that is possible; else whoever needs it says so."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
