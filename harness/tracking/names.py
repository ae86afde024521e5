"""What runs are called, grouped by and filtered by, in W&B and in comparisons."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from harness.disk.files import JOB
from harness.runs.command import ROUND
from harness.runs.secrets import hide_overrides, is_secret

# Options that say nothing about what a run is.
UNNAMED = (
    "seed",
    "stage_seed",
    "cache_dir",
    "resume",
    "logger",
    "callbacks",
    "experiment",
    "sweep",
)


def default_group(folder: Path) -> str:
    """What runs are grouped by: the sweep's folder, or for a single run its own.

    A job that is resumed alone stays in the group of its sweep.
    """
    return (folder.resolve().parent if (folder / JOB).is_file() else folder).name


def run_name(config: Mapping[str, Any], job_type: str, overrides: Sequence[str] = ()) -> str:
    """What a person reads in a list of runs: "ppo llama landmarks seed0 beta=0.1".

    `overrides` are the command line's (`algo.beta=0.1`); those that say where things are kept, and
    those that the first words say already, are left out.
    """
    seed = config["stage_seed" if job_type in config.get("stages", {}) else "seed"]
    words = [job_type, config["model"]["name"], config["data"]["name"], f"seed{seed}"]
    if number := (config.get(ROUND) or {}).get("number"):
        words.append(f"round{number}")
    for override in _parsed(overrides):
        key = override.key_or_group
        if key.split(".")[0] not in UNNAMED and key not in ("algo", "model", "data"):
            value = _told(override).rsplit("/", 1)[-1]
            words.append(f"{key.rsplit('.', 1)[-1]}={value:.24}")
    return " ".join(words)


def _told(override: Override) -> str:
    """A value as a person reads it: names without the quotes of the command line."""
    value = override.value()
    return value if isinstance(value, str) else override.get_value_element_as_str()


def swept_overrides(folder: Path) -> list[str]:
    """The overrides in which the jobs of this job's sweep differ; none for a single run.

    Hydra leaves what was asked for in multirun.yaml; where a sweeper does not, they are all that
    the job has.
    """
    if not (folder / JOB).is_file():
        return []
    mine = json.loads((folder / JOB).read_text(encoding="utf-8"))["overrides"]
    asked = folder.resolve().parent / "multirun.yaml"
    if not asked.is_file():
        return mine
    hydra = OmegaConf.load(asked).hydra
    swept = {o.key_or_group for o in _parsed(hydra.overrides.task) if o.is_sweep_override()}
    swept |= set(hydra.sweeper.get("params") or {})
    return [o for o in mine if o.split("=", 1)[0].lstrip("+") in swept]


def _parsed(overrides: Iterable[str]) -> Iterator[Override]:
    """Overrides, but those that Hydra cannot read since a secret was taken out of them."""
    parser = OverridesParser.create()
    for override in hide_overrides(overrides):
        with contextlib.suppress(HydraException):
            yield parser.parse_override(override)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with dotted keys, as W&B compares them; values of secrets are left out."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        elif not is_secret(name):
            result[name] = value
    return result


def option_names(config: Mapping[str, Any]) -> list[str]:
    """The chosen option of each group that runs are filtered by."""
    names = [config.get(g, {}).get("name") for g in ("algo", "model", "data", "reward", "adapter")]
    return [name for name in names if name and name != "none"]
