"""task=rounds: labels of the policy's own answers, a reward model of them too, and on."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.checks.config import OPTIONS, require_kind, rewards
from harness.parts.choices import Choices
from harness.ranks import has_one_device
from harness.tasks.label import PACKAGES
from lightning_modules.options.policies import PolicyOptions
from lightning_modules.options.require import one_of, require, require_package
from lightning_modules.options.rewards import LearnedRewardOptions

LABELS = ("gold", "judge", "people")


def rounds(cfg: DictConfig) -> dict[str, Any]:
    """Do `cfg.rounds` rounds; returns what summary.json holds."""
    for name in ("rounds", "pairs"):
        require_kind(name, cfg[name], int)
        require(cfg[name] >= 1, name, cfg[name], "must be at least 1")
    _require_labels(cfg)
    one_device = "a round has one device: give hardware.devices=1"
    require(has_one_device(cfg), "hardware", cfg.hardware.name, one_device)
    choices = Choices(cfg)
    kind = OPTIONS.get(cfg.algo.get("_target_"), PolicyOptions)
    require(issubclass(kind, PolicyOptions), "algo", cfg.algo.name, "rounds are of a policy")
    require(
        _learns(cfg),
        "reward",
        cfg.reward.name,
        "rounds fit a reward model to labels: give reward=learned, or a sum in which that is",
    )
    require(
        cfg.labels != "gold" or choices.source.annotate is not None,
        "labels",
        cfg.labels,
        f"data={cfg.data.name} has no annotators of its own, as data=landmarks has",
    )
    from harness.rounds.loop import run_rounds

    return run_rounds(choices)


def _require_labels(cfg: DictConfig) -> None:
    """OptionError unless those who are to label can be asked."""
    require(cfg.labels in LABELS, "labels", cfg.labels, one_of(LABELS))
    if cfg.labels == "judge":
        needed = "needs a judge: judge=pairwise judge.model=... (and judge.base_url=...)"
        require("_target_" in cfg.judge, "labels", cfg.labels, needed)
    if cfg.labels == "people":
        require(cfg.overlap >= 1, "overlap", cfg.overlap, "must be at least 1")
        require(0 <= cfg.port < 65536, "port", cfg.port, "must lie in [0, 65535]")
        for package in PACKAGES:
            require_package(package, "label", "labels", cfg.labels)


def _learns(cfg: DictConfig) -> bool:
    """Whether a reward model is fitted for the policy."""
    parts = rewards("reward", OmegaConf.to_container(cfg.reward, resolve=True))
    return any(OPTIONS.get(part.get("_target_")) is LearnedRewardOptions for _, part in parts)
