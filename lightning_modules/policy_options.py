"""The options that every policy-gradient algorithm has, checked as soon as they are read."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lightning_modules.options import require, require_at_least

CRITICS = (None, "head", "adapter", "copy")
NORMALISERS = ("sequences", "tokens")
LR_DECAYS = ("linear", "none")


@dataclass(frozen=True)
class AdaptiveBeta:
    """Let beta follow the KL of sequences: `target` in nats, `horizon` in episodes."""

    target: float
    horizon: float

    def __post_init__(self):
        require(self.target > 0, "algo.adaptive_beta.target", self.target, "must be above 0")
        require(self.horizon > 0, "algo.adaptive_beta.horizon", self.horizon, "must be above 0")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What conf/algo/base/policy.yaml sets; it says what each option means."""

    iterations: int
    prompts_per_iteration: int
    samples_per_prompt: int
    epochs: int
    minibatches: int
    micro_batch_size: int
    temperature: float
    beta: float
    adaptive_beta: AdaptiveBeta | None = None
    gamma: float
    normalise_scores: bool = False
    score_clip: float | None = None
    missing_eos_penalty: float = 0.0
    entropy_coef: float = 0.0
    target_kl: float | None = None
    critic: str | None
    normalise: str
    max_grad_norm: float | None
    optimizer: Callable[..., torch.optim.Optimizer]
    value_lr: float | None
    lr_decay: str
    evaluate_every: int
    val_prompts: int
    seed: int

    def __post_init__(self):
        counts = (
            "iterations",
            "prompts_per_iteration",
            "samples_per_prompt",
            "epochs",
            "minibatches",
            "micro_batch_size",
            "evaluate_every",
            "val_prompts",
        )
        require_at_least(1, "algo", **{name: getattr(self, name) for name in counts})
        not_negative = ("beta", "missing_eos_penalty", "entropy_coef")
        require_at_least(0, "algo", **{name: getattr(self, name) for name in not_negative})
        for name in ("score_clip", "target_kl", "max_grad_norm", "value_lr"):
            value = getattr(self, name)
            require(
                value is None or value > 0,
                f"algo.{name}",
                value,
                "must be greater than 0, or null to do without",
            )
        require(
            self.temperature > 0, "algo.temperature", self.temperature, "must be greater than 0"
        )
        require(0 <= self.gamma <= 1, "algo.gamma", self.gamma, "must lie in [0, 1]")
        for name, choices in (
            ("critic", CRITICS),
            ("normalise", NORMALISERS),
            ("lr_decay", LR_DECAYS),
        ):
            value = getattr(self, name)
            require(value in choices, f"algo.{name}", value, f"must be one of {choices}")
        require(
            self.adaptive_beta is None or self.beta > 0,
            "algo.beta",
            self.beta,
            "must be greater than 0 where algo.adaptive_beta is to change it",
        )
        require(
            self.adaptive_beta is None
            or self.adaptive_beta.horizon >= self.sequences_per_iteration,
            "algo.adaptive_beta.horizon",
            self.adaptive_beta and self.adaptive_beta.horizon,
            f"must be at least the {self.sequences_per_iteration} episodes of an iteration, or"
            " beta could fall to 0 in one",
        )
        require(
            self.sequences_per_iteration % self.minibatches == 0,
            "algo.minibatches",
            self.minibatches,
            f"must divide the {self.sequences_per_iteration} sequences of an iteration"
            f" ({self.prompts_per_iteration} prompts x {self.samples_per_prompt} samples)",
        )

    @property
    def sequences_per_iteration(self) -> int:
        """B, over all ranks."""
        return self.prompts_per_iteration * self.samples_per_prompt
