"""What was asked for: `.hydra/` in a run's folder, and runs that a command line names.

`.hydra/` is written once a run has begun, and not by Hydra, so that a command that is refused
changes nothing of the run that is in the folder, and no secret is written.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from harness.disk.files import CONFIG, STATE, write_text
from harness.overrides import BLANKS, OVERRIDE
from harness.runs.secrets import hide_overrides, kept, without_secrets
from lightning_modules.options.paths import MODEL

COMMAND = ".hydra"
EXPORTS = "exports"
# Options that name the run whose config a task begins with.
OF_RUN = {"evaluate": ("policy", "against", "reward.path"), "export": ("run",)}
WITHIN = re.compile(r"(data|reward|model|adapter|stages|algo)\.[\w.]+=")


def typed_overrides() -> list[str]:
    """What was typed, without secrets; `${...}` is not looked up."""
    task = HydraConfig.get().overrides.task
    return hide_overrides(OmegaConf.to_container(task, resolve=False))


def run_of(place: Any) -> Path | None:
    """The folder of the run that has trained the model at `place`: that folder itself, the `model`
    in it or one of its `exports`. None for a model from elsewhere.
    """
    if not isinstance(place, str) or not place:
        return None
    folder = Path(os.path.expanduser(place))
    if folder.name == MODEL and not (folder / STATE).is_file():
        folder = folder.parent
    if folder.parent.name == EXPORTS and not (folder / STATE).is_file():
        folder = folder.parent.parent
    return folder if (folder / STATE).is_file() and (folder / CONFIG).is_file() else None


def with_options_of_runs(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line that names a run, so that Hydra takes options which its
    defaults do not have: `data.limit=9`, where that run has files.

    The task finds out whether there are such options.
    """
    given = {m[2]: m[3] for argument in arguments if (m := OVERRIDE.fullmatch(argument))}
    values = [given.get(name, "") for name in OF_RUN.get(given.get("task", ""), ())]
    places = [part.strip(BLANKS + "'\"") for value in values for part in (value, *value.split(","))]
    if not any(map(run_of, places)):
        return list(arguments)
    return [
        f"++{argument}" if (m := WITHIN.match(argument)) and m[1] not in given else argument
        for argument in arguments
    ]


def keep_command(folder: Path, cfg: DictConfig) -> None:
    """Write the config, Hydra's own config and the overrides of the command line."""
    overrides = typed_overrides()
    hydra = OmegaConf.to_container(HydraConfig.get(), resolve=False)
    hydra["overrides"]["task"] = overrides
    hydra["job"].pop("override_dirname", None)  # the same again
    (folder / COMMAND).mkdir(exist_ok=True)
    for name, content in (
        ("config.yaml", kept(cfg)),
        ("hydra.yaml", {"hydra": hydra}),
        ("overrides.yaml", overrides),
    ):
        text = OmegaConf.to_yaml(OmegaConf.create(content))
        write_text(folder / COMMAND / name, without_secrets(text, cfg))
