"""Names that have changed: refused with the new one when typed, translated when read from a run's
folder that an earlier version wrote.
"""

import re
from collections.abc import Sequence
from typing import Any

from lightning_modules.errors import OptionError

OPTIONS = {"data.suits": "data.recommended", "data.overlong": "data.too_long"}
TARGETS = {
    "datamodules.sources.hh.HH": "datamodules.sources.public.hh.HH",
    "datamodules.sources.summarize_from_feedback.SummarizeFromFeedback": (
        "datamodules.sources.public.summarize_from_feedback.SummarizeFromFeedback"
    ),
    "datamodules.sources.ultrafeedback.UltraFeedback": (
        "datamodules.sources.public.ultrafeedback.UltraFeedback"
    ),
    "harness.compare.compare": "harness.tasks.compare.compare",
    "harness.evaluate.evaluate": "harness.tasks.evaluate.evaluate",
    "harness.export_run.export_run": "harness.tasks.export.export_run",
    "harness.sweeps.Sweep": "harness.sweeps.sweep.Sweep",
    "harness.tracking.wandb_run": "harness.tracking.wandb_run.wandb_run",
    "harness.train.train": "harness.tasks.train.train",
    "lightning_modules.backbone.Backbone": "lightning_modules.models.language_model.LanguageModel",
}


def refuse_old_names(overrides: Sequence[str]) -> None:
    """Raise OptionError for the first override of the command line that has an old name."""
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        for old, new in OPTIONS.items():
            if re.match(rf"{re.escape(old)}(\.|$)", key):
                raise OptionError(f"{key}: is called {new}{key[len(old) :]} now")


def refuse_old_keys(config: dict[str, Any]) -> None:
    """Raise OptionError for an old name in a composed config, as a preset of one's own may have."""
    for old, new in OPTIONS.items():
        group, name = old.split(".")
        if name in config.get(group, {}):
            raise OptionError(f"{old}: is called {new} now")
    for place, target in _targets(config):
        if target in TARGETS:
            raise OptionError(f"{place}={target}: is {TARGETS[target]} now")


def with_new_names(config: Any) -> Any:
    """A run's config with today's names in the place of old ones."""
    if not isinstance(config, dict):
        return config
    renamed = {key: with_new_names(value) for key, value in config.items()}
    if (target := renamed.get("_target_")) in TARGETS:
        renamed["_target_"] = TARGETS[target]
    for old, new in OPTIONS.items():
        group, name = old.split(".")
        section = renamed.get(group)
        if isinstance(section, dict) and name in section:
            renamed[group] = {
                new.split(".")[1] if key == name else key: value for key, value in section.items()
            }
    return renamed


def _targets(config: Any, place: str = "") -> list[tuple[str, str]]:
    if not isinstance(config, dict):
        return []
    own = [(f"{place}_target_", config["_target_"])] if "_target_" in config else []
    return own + [
        found for key, value in config.items() for found in _targets(value, f"{place}{key}.")
    ]
