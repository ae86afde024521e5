"""Every option of a run checked before torch is imported: a wrong value is told in a second.

The rules are those of the options' own classes, which the modules are built from as well.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.errors import RunError
from harness.runs.renamed import refuse_old_keys
from lightning_modules.errors import OptionError
from lightning_modules.options.models import LanguageModelOptions
from lightning_modules.options.policies import A2COptions, PPOOptions, ReinforceOptions
from lightning_modules.options.rewards import (
    CheckpointRewardOptions,
    CombinedRewardOptions,
    FunctionRewardOptions,
    LearnedRewardOptions,
)
from lightning_modules.options.supervised import RewardModelOptions, SupervisedOptions

# What a part of the config builds, by its `_target_`. One that is not here (of an extension) is
# checked when it is built.
OPTIONS = {
    "lightning_modules.sft.SFT": SupervisedOptions,
    "lightning_modules.reward_model.RewardModel": RewardModelOptions,
    "lightning_modules.reinforce.Reinforce": ReinforceOptions,
    "lightning_modules.a2c.A2C": A2COptions,
    "lightning_modules.ppo.PPO": PPOOptions,
    "lightning_modules.models.language_model.LanguageModel": LanguageModelOptions,
    "lightning_modules.rewards.learned.LearnedReward": LearnedRewardOptions,
    "lightning_modules.rewards.learned.CheckpointReward": CheckpointRewardOptions,
    "lightning_modules.rewards.programmed.FunctionReward": FunctionRewardOptions,
    "lightning_modules.rewards.combined.CombinedReward": CombinedRewardOptions,
}


def check_options(cfg: DictConfig) -> None:
    """Raise RunError if an option has no value, and OptionError if it has a wrong one."""
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise RunError("; ".join(f"{key} has no value: give {key}=..." for key in missing))
    plain = OmegaConf.to_container(cfg, resolve=True)
    refuse_old_keys(plain)
    for place, section in _sections(plain):
        if options_class := OPTIONS.get(section.get("_target_")):
            _check(place, section, options_class)
    _require_adapters(cfg)


def _sections(cfg: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of the config that build something, by where they stand."""
    yield "algo", cfg["algo"]
    for name, stage in cfg["stages"].items():
        yield f"stages.{name}", stage
    yield "model", cfg["model"]
    yield "reward", cfg["reward"]
    for name, part in (cfg["reward"].get("rewards") or {}).items():
        yield f"reward.rewards.{name}", part


def _check(place: str, section: dict[str, Any], options_class: type) -> None:
    given = {name: value for name, value in section.items() if not name.startswith("_")}
    known = [field.name for field in fields(options_class)]
    if unknown := [name for name in given if name not in known]:
        raise OptionError(
            f"{place}.{unknown[0]}: {place}={given.get('name')} has no such option; it has"
            f" {', '.join(known)}"
        )
    options_class(**given)


def _require_adapters(cfg: DictConfig) -> None:
    if cfg.algo.get("critic") == "adapter" and cfg.adapter.config is None:
        raise OptionError(
            "algo.critic=adapter: needs adapter=lora: it is a second adapter of the policy"
        )
