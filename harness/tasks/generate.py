"""task=generate: answers of policies to prompts, as a file that other tasks read."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.evaluation.of_run import taken_for_answers
from harness.overrides import require_names
from harness.parts.choices import Choices
from harness.parts.players import players_of
from harness.surroundings import require_writable
from lightning_modules.options.require import require

SPLITS = ("train", "val", "all")


def generate(cfg: DictConfig) -> dict[str, Any]:
    """Let `cfg.policy`, or each of `cfg.policies`, answer prompts; returns what summary.json holds.

    What is not typed is as the run had it that the (first) policy is of.
    """
    require_names(cfg)
    both = cfg.policy is not None and cfg.policies is not None
    require(not both, "policies", cfg.policies, "give them or policy, not both")
    option = "policy" if cfg.policies is None else "policies"
    places = players_of(option, cfg[option])
    require(cfg.split in SPLITS, "split", cfg.split, f"must be one of {', '.join(SPLITS)}")
    for name in ("samples", "prompts", "batch_size"):
        require(cfg[name] is None or cfg[name] >= 1, name, cfg[name], "must be at least 1")
    require(
        cfg.temperature is None or cfg.temperature > 0,
        "temperature",
        cfg.temperature,
        "must be above 0",
    )
    if cfg.to is not None:
        require_writable(Path(cfg.to), "to")
    taken = taken_for_answers(
        cfg, [(option, place) for place in places.values()], list(HydraConfig.get().overrides.task)
    )
    choices = Choices(taken.config, taken.origin)
    from harness.generation.generating import generate_chosen

    return generate_chosen(choices, taken.notes)
