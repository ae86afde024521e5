"""task=train: the whole pipeline, or one rung of it."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from harness.parts.choices import Choices
from harness.runs.nearby import require_run


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run `cfg.algo` with the stages that it needs; returns what summary.json holds."""
    if cfg.resume and cfg.resume != "auto":
        require_run("resume", Path(str(cfg.resume)).expanduser())
    choices = Choices(cfg)
    from harness.pipeline.rungs import train_chosen

    return train_chosen(choices)
