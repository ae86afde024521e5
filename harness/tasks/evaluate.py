"""task=evaluate: how good a policy is, or a reward."""

from typing import Any

from omegaconf import DictConfig

from harness.parts.choices import Choices
from lightning_modules.options.require import require_at_least


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate `cfg.policy` or, without one, `cfg.reward`; returns what summary.json holds."""
    options = cfg.evaluation
    require_at_least(1, "evaluation", prompts=options.prompts, batch_size=options.batch_size)
    choices = Choices(cfg)
    from harness.evaluation.verdict import evaluate_chosen

    return evaluate_chosen(choices)
