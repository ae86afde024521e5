"""Where a model lies: a folder of its own, that of the run that trained it, or a hub id."""

import os
from pathlib import Path

CONFIG = "config.json"
MODEL = "model"


def model_folder(path: str | Path) -> str:
    """The folder that holds the model, or the hub id as it is.

    For the folder of a run (or of a stage), which keeps its model in `model/`, that one.
    """
    folder = Path(os.path.expanduser(path))
    if (folder / CONFIG).is_file() or not (folder / MODEL / CONFIG).is_file():
        return str(folder) if folder.exists() else str(path)
    return str(folder / MODEL)
