"""The options of a run that are not what they are by default, whoever changed them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from harness.runs.command import typed_overrides
from harness.runs.secrets import HIDDEN, is_secret

# Of what was chosen these say nothing of a run, or say it in the options that they set.
NO_CHOICES = ("hydra/", "task", "experiment", "sweep")
NO_OPTIONS = ("task", "resume", "resume_anyway", "cache_dir", "sweep")


def not_default(cfg: DictConfig) -> list[str]:
    """`group=choice` and `option=value (default)`, changed on the command line, by an experiment or
    by a sweep; or else what was typed, where Hydra cannot say what the defaults are.
    """
    if not GlobalHydra.instance().is_initialized():
        return typed_overrides()
    chosen = {
        group: choice
        for group, choice in HydraConfig.get().runtime.choices.items()
        if choice is not None and not group.startswith(NO_CHOICES)
    }
    try:
        default = _composed([f"{group}={choice}" for group, choice in chosen.items()])
    except Exception:  # such as for a group that the command line has added
        return typed_overrides()
    usual = _usual_choices()
    changed = [f"{g}={c}" for g, c in chosen.items() if g in usual and usual[g] != c]
    was, now = dict(_options(default)), dict(_options(cfg))
    for name, value in now.items():
        if name.split(".")[0] not in NO_OPTIONS and (name not in was or was[name] != value):
            shown = HIDDEN if is_secret(name) else _or_null(value)
            changed.append(f"{name}={shown}{_default(default, name)}")
    return changed


def _composed(overrides: list[str]) -> DictConfig:
    loader, name = GlobalHydra.instance().config_loader(), HydraConfig.get().job.config_name
    return loader.load_configuration(name, overrides=overrides, run_mode=RunMode.RUN)


def _usual_choices() -> dict[str, str | None]:
    """What is chosen in each group where nobody chooses."""
    hydra = HydraConfig.get()
    folder = next(s.path for s in hydra.runtime.config_sources if s.provider == "main")
    listed = OmegaConf.load(Path(folder, f"{hydra.job.config_name}.yaml")).defaults
    return {k: v for entry in listed if isinstance(entry, DictConfig) for k, v in entry.items()}


def _options(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every option by its dotted name, as it was written: `${...}` is not looked up."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=False)
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            if key != "hydra" or name:
                yield from _options(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def _default(default: DictConfig, name: str) -> str:
    """` (value)`, or nothing where there is none."""
    try:
        value = OmegaConf.select(default, name, default="", throw_on_missing=False)
    except Exception:  # what it refers to is not there
        return ""
    if value == "" or OmegaConf.is_config(value) or is_secret(name):
        return ""
    return f" ({_or_null(value)})"


def _or_null(value: Any) -> Any:
    return "null" if value is None else value
