"""The policies that a command names: one, several in a list, or several by names of one's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from harness.overrides import written
from harness.runs.command import EXPORTS, run_of
from harness.runs.used_stages import REFERENCE
from lightning_modules.errors import OptionError

STARTED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_")


def players_of(option: str, value: Any) -> dict[str, str]:
    """Where each policy is, by what it is called: a folder (of a model or of a run), a hub id, or
    the word reference. Those without a name are called by the end of their place.

    OptionError, which names the option, if it names no policy, or one twice.
    """
    given = OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value
    places = list(given.values() if isinstance(given, Mapping) else given or [])
    if isinstance(given, str):
        places = [given]
    if not places or not all(isinstance(place, str) and place for place in places):
        raise OptionError(
            f"{option}={written(given)}: give policy=<folder of a run or a model, or hub id>, or"
            f" several: policies='[<run>,{REFERENCE}]' or, with names,"
            " policies='{old: <run>, new: <run>}'"
        )
    names = [str(name) for name in given] if isinstance(given, Mapping) else names_of(places)
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"{option}={written(given)}: names {twice[0]} twice")
    return dict(zip(names, places, strict=True))


def names_of(places: list[str]) -> list[str]:
    """What policies are called beside each other: a run by its folder without the time, another
    model by the end of its path or hub id; in full where that would be the same.
    """
    short = [short_name(place) for place in places]
    return [
        place if short.count(name) > 1 else name for place, name in zip(places, short, strict=True)
    ]


def short_name(place: str) -> str:
    """What one is called by itself."""
    run = run_of(place)
    path = Path(place).absolute()
    name = (run.absolute() if run else path).name
    export = f" {path.name}" if path.parent.name == EXPORTS else ""
    return (STARTED.sub("", name) or place) + export
