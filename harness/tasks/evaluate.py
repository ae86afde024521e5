"""task=evaluate: how good a policy is, or a reward."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.evaluation.of_run import taken_from_run
from harness.overrides import require_names
from harness.parts.choices import Choices, has_judge
from lightning_modules.errors import OptionError
from lightning_modules.options.require import require_at_least


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate `cfg.policy` or, without one, `cfg.reward`; returns what summary.json holds.

    What is not typed is as the run had it that the policy is of.
    """
    require_names(cfg)
    taken = taken_from_run(cfg, list(HydraConfig.get().overrides.task))
    options = taken.config.evaluation
    require_at_least(1, "evaluation", prompts=options.prompts, batch_size=options.batch_size)
    if has_judge(cfg) and cfg.policy is None:
        raise OptionError(
            f"judge={cfg.judge.name}: compares the responses of policies: give policy=...; how well"
            " it agrees with the labels of data, task=judge says"
        )
    choices = Choices(taken.config, taken.origin)
    from harness.evaluation.verdict import evaluate_chosen

    return evaluate_chosen(choices, taken.notes)
