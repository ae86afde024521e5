"""Learning rates that the config leaves open, filled in for the model that it names."""

import copy
from dataclasses import asdict

from omegaconf import DictConfig, OmegaConf

from lightning_modules.models.language_model import LanguageModel
from lightning_modules.options.learning_rates import suited_rates

TASKS = {"SFT": "sft", "RewardModel": "reward_model", "PPO": "policy"}


def with_rates(cfg: DictConfig, language_model: LanguageModel) -> DictConfig:
    """A copy of the config in which every learning rate is a number.

    Those that are null are set by the model's number of parameters; the others stay. The copy is
    for what is built from it: a run's own config, by which it is told from others, keeps the null.
    """
    filled = copy.deepcopy(cfg)
    if not _open(filled):
        return filled
    lora = cfg.adapter.config is not None
    rates = asdict(suited_rates(language_model.parameters(), lora=lora))
    for task, rate in rates.items():
        if OmegaConf.select(filled, f"model.lr.{task}") is None:
            OmegaConf.update(filled, f"model.lr.{task}", rate, force_add=True)
    # What does not refer to model.lr: null by itself, or of a config that was written resolved.
    for section in _open(filled):
        kind = section._target_.rsplit(".", 1)[-1]
        section.optimizer.lr = rates[TASKS.get(kind, "policy_one_update")]
    return filled


def _open(cfg: DictConfig) -> list[DictConfig]:
    """The trainings whose learning rate is null."""
    trainings = [cfg.algo, *cfg.stages.values()]
    return [t for t in trainings if OmegaConf.select(t, "optimizer.lr", default=0) is None]
