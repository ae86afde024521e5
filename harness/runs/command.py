"""What was asked for: `.hydra/` in a run's folder, and runs that a command line names.

`.hydra/` is written once a run has begun, and not by Hydra, so that a command that is refused
changes nothing of the run that is in the folder, and no secret is written.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from harness.disk.files import CONFIG, STATE, write_text
from harness.runs.secrets import hide_overrides, kept, without_secrets
from lightning_modules.options.paths import MODEL

COMMAND = ".hydra"
# Of several rounds: the section that says which one a run is, and what the first one's folder is
# called.
ROUND, FIRST_ROUND = "round", "round-1"
EXPORTS = "exports"


def typed_overrides() -> list[str]:
    """What was typed, without secrets; `${...}` is not looked up."""
    task = HydraConfig.get().overrides.task
    return hide_overrides(OmegaConf.to_container(task, resolve=False))


def is_job_in_turn() -> bool:
    """Whether this is a job of a sweep that runs one after another and prints in one place."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] == "basic"


def hydra_of(run: Path) -> dict[str, Any]:
    """`choices` of groups and the folder (`cwd`) that Hydra had when the run in this folder was
    started; empty where that is not kept.
    """
    try:
        kept = yaml.safe_load((run / COMMAND / "hydra.yaml").read_text(encoding="utf-8"))
        runtime = kept["hydra"]["runtime"]
        return {"choices": dict(runtime["choices"]), "cwd": str(runtime["cwd"])}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return {}


def started_in(run: Path) -> Path:
    """The folder in which a run was started; where one stands, if that is not known."""
    return Path(hydra_of(run).get("cwd", ""))


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
