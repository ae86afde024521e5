"""Where a model lies: a folder of its own, that of the run that trained it, or a hub id; and the
value function beside a policy.
"""

import os
from pathlib import Path

CONFIG = "config.json"
MODEL = "model"
CRITIC = "critic"


def model_folder(path: str | Path) -> str:
    """The folder that holds the model, or the hub id as it is.

    For the folder of a run (or of a stage), which keeps its model in `model/`, that one.
    """
    folder = Path(os.path.expanduser(path))
    if (folder / CONFIG).is_file() or not (folder / MODEL / CONFIG).is_file():
        return str(folder) if folder.exists() else str(path)
    return str(folder / MODEL)


def critic_folder(path: str | Path) -> str:
    """The same of a value function: that of a run, which keeps it in `critic/`, or the folder of a
    sequence-classification model.
    """
    beside = Path(os.path.expanduser(path)) / CRITIC
    return model_folder(beside if (beside / MODEL / CONFIG).is_file() else path)


def policy_adapter(path: str | Path) -> Path:
    """Where the run whose policy is at `path` keeps the adapter that it has trained."""
    return Path(model_folder(path)).parent / "adapter"


def value_adapter(critic: str | Path) -> Path:
    """Where a value function that is an adapter on the policy's weights has it, beside its model;
    as PEFT lays out adapters with names.
    """
    return Path(critic).parent / "adapter" / "value"
