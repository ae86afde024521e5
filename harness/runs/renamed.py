"""Names that have changed: refused with the new one when typed, translated when read from a run's
folder that an earlier version wrote.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any

from lightning_modules.errors import OptionError

OPTIONS = {"data.suits": "data.recommended", "data.overlong": "data.too_long"}
LR_MULTIPLIER = "adapter.lr_multiplier"
# What came later, with the values that mean what was done before: of algorithms that have a certain
# option, and of data.
LATER = {
    "critic": {"critic_warmup": 0, "critic_from": None},
    "iterations": {"policy_from": None},
}
LATER_OF_DATA = {"more": None}
# The same of other parts, by what they build, and of the names of columns.
LATER_OF = {
    "lightning_modules.reward_model.RewardModel": {"thumb_weight": 1.0},
    "datamodules.sources.landmarks.Landmarks": {"train_thumbs": 0, "val_thumbs": 0},
}
LATER_COLUMNS = {"response": "response", "label": "label"}
NO_JUDGE = {"name": "none"}
GONE = {
    LR_MULTIPLIER: "is gone: a learning rate is what it says, with LoRA too; give"
    " algo.optimizer.lr=..., stages.reward_model.optimizer.lr=... or model.lr.policy=..."
}
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
        if key in GONE:
            raise OptionError(f"{key}: {GONE[key]}")


def refuse_old_keys(config: dict[str, Any]) -> None:
    """Raise OptionError for an old name in a composed config, as a preset of one's own may have."""
    for old, new in OPTIONS.items():
        group, name = old.split(".")
        if name in config.get(group, {}):
            raise OptionError(f"{old}: is called {new} now")
    for old, instead in GONE.items():
        group, name = old.split(".")
        if name in config.get(group, {}):
            raise OptionError(f"{old}: {instead}")
    for place, target in _targets(config):
        if target in TARGETS:
            raise OptionError(f"{place}={target}: is {TARGETS[target]} now")


def with_new_names(config: Any) -> Any:
    """A run's config with today's names in the place of old ones."""
    if not isinstance(config, dict):
        return config
    renamed = {key: with_new_names(value) for key, value in config.items()}
    if isinstance(target := renamed.get("_target_"), str) and target in TARGETS:
        renamed["_target_"] = TARGETS[target]
    for old, new in OPTIONS.items():
        group, name = old.split(".")
        section = renamed.get(group)
        if isinstance(section, dict) and name in section:
            renamed[group] = {
                new.split(".")[1] if key == name else key: value for key, value in section.items()
            }
    renamed = LATER_OF.get(str(renamed.get("_target_")), {}) | renamed
    if isinstance(columns := renamed.get("columns"), dict) and "chosen" in columns:
        renamed["columns"] = LATER_COLUMNS | columns
    if isinstance(algo := renamed.get("algo"), dict):
        for option, later in LATER.items():
            renamed["algo"] = (later if option in algo else {}) | renamed["algo"]
        if isinstance(data := renamed.get("data"), dict):
            renamed["data"] = LATER_OF_DATA | data
    if "algo" in renamed and "reward" in renamed:  # a whole config
        renamed.setdefault("judge", NO_JUDGE)
    return _multiplied(_for_the_machine(renamed))


def _for_the_machine(config: dict[str, Any]) -> dict[str, Any]:
    """A whole config of a version that knew neither `hardware.checkpointing` nor
    `hardware.sampler`: with both, and with the micro-batches of pretrained models that are usual
    now, which change no result.
    """
    hardware, algo = config.get("hardware"), config.get("algo")
    if not isinstance(hardware, dict) or not isinstance(algo, dict) or "checkpointing" in hardware:
        return config
    if (algo.get("micro_batch_size"), algo.get("micro_batch_tokens")) == (64, 4096):
        algo = algo | {"micro_batch_size": None, "micro_batch_tokens": "auto"}
    hardware = hardware | {"checkpointing": "auto", "sampler": "auto"}
    return config | {"hardware": hardware, "algo": algo}


def _multiplied(config: dict[str, Any]) -> dict[str, Any]:
    """A whole config in whose place of `adapter.lr_multiplier` the learning rates are what they
    were when multiplied by it. Other sections, and configs without it, come back as they are.
    """
    group, name = LR_MULTIPLIER.split(".")
    adapter = config.get(group)
    if not isinstance(adapter, dict) or name not in adapter:
        return config
    config = copy.deepcopy(config)
    factor = config[group].pop(name)
    if config[group].get("config") is None:  # it was for adapters alone
        return config
    model = config.get("model", {})
    optimizers = [config.get("algo", {}).get("optimizer")]
    optimizers += [stage.get("optimizer") for stage in config.get("stages", {}).values()]
    for rates in (model.get("lr"), *optimizers):
        for key, rate in (rates or {}).items():
            if (rates is model.get("lr") or key == "lr") and isinstance(rate, int | float):
                rates[key] = float(f"{rate * factor:.12g}")
    return config


def _targets(config: Any, place: str = "") -> list[tuple[str, str]]:
    if not isinstance(config, dict):
        return []
    own = [(f"{place}_target_", config["_target_"])] if "_target_" in config else []
    return own + [
        found for key, value in config.items() for found in _targets(value, f"{place}{key}.")
    ]
