"""task=train: the whole pipeline, or one rung of it."""

from typing import Any

from omegaconf import DictConfig

from harness.parts.choices import Choices


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run `cfg.algo` with the stages that it needs; returns what summary.json holds."""
    choices = Choices(cfg)
    from harness.pipeline.rungs import train_chosen

    return train_chosen(choices)
