"""What configs say by `${...}`: names, what suits a toy, what a budget allows, the environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

EMBEDDED_WORLD = "datamodules.sources.landmarks.Landmarks"
_ENVIRONMENT: ContextVar[dict[str, str] | None] = ContextVar("environment", default=None)


def register() -> None:
    """Make known to OmegaConf what configs say by `${...}`; `${oc.env:...}` becomes one whose
    reading is noticed.
    """
    OmegaConf.register_new_resolver("model_name", model_name, replace=True)
    OmegaConf.register_new_resolver("toy_lr", toy_lr, replace=True)
    OmegaConf.register_new_resolver("budget", budget, replace=True)
    OmegaConf.register_new_resolver("toy", toy, replace=True)
    OmegaConf.register_new_resolver("embedded", embedded, replace=True)
    OmegaConf.register_new_resolver("oc.env", env, replace=True)


def model_name(toy: str, *, _parent_: DictConfig) -> str:
    """What a model is called: `toy`, or as its hub id or folder (below, `pretrained`) ends.

    `./my_model` is my_model, `org/name` is name, and `<run>/model` has the name of the run.
    """
    with environment_read():  # a name is public, wherever the path before it comes from
        pretrained = OmegaConf.select(_parent_, "pretrained")
    if pretrained is None:
        return toy
    place = Path(os.path.abspath(str(pretrained)))
    if place.name == "model" and place.is_dir():
        place = place.parent
    return place.name or toy


def toy_lr(full: float, lora: float, *, _root_: DictConfig) -> float | None:
    """A toy's learning rate, `full` or with adapters `lora`; None for pretrained weights."""
    with environment_read():
        adapted: Any = OmegaConf.select(_root_, "adapter.config")
    return toy(full if adapted is None else lora, None, _root_=_root_)


def budget(name: str, usual: Any, *, _root_: DictConfig) -> Any:
    """What the chosen budget (conf/budget) says of an option, or else what is usual."""
    allowed = OmegaConf.select(_root_, f"budget.{name}")
    return usual if allowed is None else allowed


def toy(own: Any, other: Any, *, _root_: DictConfig) -> Any:
    """`own` for a toy, `other` for pretrained weights."""
    return own if _is_toy(_root_) else other


def embedded(own: Any, other: Any, *, _root_: DictConfig) -> Any:
    """`own` for a toy on the embedded world, `other` where weights or data are real."""
    source = OmegaConf.select(_root_, "data._target_")
    return own if _is_toy(_root_) and source == EMBEDDED_WORLD else other


def _is_toy(root: DictConfig) -> bool:
    with environment_read():  # whether there is a value says nothing of it
        return OmegaConf.select(root, "model.pretrained") is None


def env(*arguments: Any) -> str | None:
    """OmegaConf's own `oc.env`, whose reading `environment_read` notices."""
    value = oc.env(*arguments)
    read = _ENVIRONMENT.get()
    if read is not None:
        read[str(arguments[0])] = "" if value is None else value
    return value


@contextmanager
def environment_read() -> Iterator[dict[str, str]]:
    """What configs read from the environment inside the block, by the names of variables.

    A block within another one keeps what it notices to itself.
    """
    read: dict[str, str] = {}
    before = _ENVIRONMENT.set(read)
    try:
        yield read
    finally:
        _ENVIRONMENT.reset(before)
