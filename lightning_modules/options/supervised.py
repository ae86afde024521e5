"""The options of supervised training, checked as soon as they are read."""

from dataclasses import dataclass
from typing import Any

from lightning_modules.options.require import require, require_at_least

LOSSES = ("bradley_terry", "plackett_luce", "thumbs")


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions:
    """What conf/algo/sft.yaml and conf/algo/reward_model.yaml share; they say what each means.

    `optimizer` is a partial of an optimiser's class, with its `lr`.
    """

    name: str
    epochs: int
    batch_size: int
    micro_batch_tokens: int
    max_grad_norm: float | None
    optimizer: Any
    warmup: float

    def __post_init__(self):
        counts = ("epochs", "batch_size", "micro_batch_tokens")
        require_at_least(1, "algo", **{name: getattr(self, name) for name in counts})
        require(0 <= self.warmup < 1, "algo.warmup", self.warmup, "must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class RewardModelOptions(SupervisedOptions):
    """What conf/algo/reward_model.yaml adds."""

    loss: str
    margin_coef: float
    label_smoothing: float
    tie_threshold: float | None
    centring_coef: float
    ensemble: int
    thumb_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require(self.loss in LOSSES, "algo.loss", self.loss, f"must be one of {', '.join(LOSSES)}")
        for name in ("margin_coef", "centring_coef"):
            value = getattr(self, name)
            require(value >= 0, f"algo.{name}", value, "must not be negative")
        require(
            0 <= self.label_smoothing < 0.5,
            "algo.label_smoothing",
            self.label_smoothing,
            "is a share of wrong labels: it must lie in [0, 0.5)",
        )
        require(
            self.tie_threshold is None or self.tie_threshold > 0,
            "algo.tie_threshold",
            self.tie_threshold,
            "must be above 0, or null to learn nothing from ties",
        )
        require(self.thumb_weight > 0, "algo.thumb_weight", self.thumb_weight, "must be above 0")
        require(self.ensemble >= 1, "reward.ensemble", self.ensemble, "must be at least 1")
        if self.loss == "plackett_luce":
            for name in ("margin_coef", "label_smoothing", "tie_threshold"):
                value = getattr(self, name)
                require(not value, f"algo.{name}", value, "belongs to algo.loss=bradley_terry")
