"""What the options in conf/model/ say by `${...}`: a model's name, a toy's learning rates."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def register() -> None:
    """Make `${model_name:...}` and `${toy_lr:...}` known to OmegaConf."""
    OmegaConf.register_new_resolver("model_name", model_name, replace=True)
    OmegaConf.register_new_resolver("toy_lr", toy_lr, replace=True)


def model_name(toy: str, *, _parent_: DictConfig) -> str:
    """What a model is called: `toy`, or as its hub id or folder (below, `pretrained`) ends.

    `./my_model` is my_model, `org/name` is name, and `<run>/model` has the name of the run.
    """
    pretrained = OmegaConf.select(_parent_, "pretrained")
    if pretrained is None:
        return toy
    place = Path(os.path.abspath(str(pretrained)))
    if place.name == "model" and place.is_dir():
        place = place.parent
    return place.name or toy


def toy_lr(full: float, lora: float, *, _root_: DictConfig) -> float | None:
    """A toy's learning rate, `full` or with adapters `lora`; None for pretrained weights."""
    if OmegaConf.select(_root_, "model.pretrained") is not None:
        return None
    adapted: Any = OmegaConf.select(_root_, "adapter.config")
    return full if adapted is None else lora
