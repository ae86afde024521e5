"""The options of policy-gradient algorithms, checked as soon as they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_modules.options.require import one_of, require, require_at_least

CRITICS = (None, "head", "adapter", "copy")
NORMALISERS = ("sequences", "tokens")
LR_DECAYS = ("linear", "none")
RETURNS = ("sequence", "to_go")
BASELINES = ("none", "mean", "leave_one_out")
IMPORTANCE = ("none", "sequence", "token")
AUTO = "auto"


@dataclass(frozen=True)
class AdaptiveBeta:
    """Let beta follow the KL of sequences: `target` in nats, `horizon` in episodes."""

    target: float
    horizon: float

    def __post_init__(self):
        for name, value in vars(self).items():
            above = isinstance(value, int | float) and value > 0
            require(above, f"algo.adaptive_beta.{name}", value, "must be a number above 0")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What conf/algo/base/policy.yaml sets; it says what each option means.

    `optimizer` is a partial of an optimiser's class, with its `lr`.
    """

    name: str
    iterations: int
    prompts_per_iteration: int
    samples_per_prompt: int
    epochs: int
    minibatches: int
    micro_batch_size: int | None
    micro_batch_tokens: int | str | None = None
    temperature: float
    beta: float
    adaptive_beta: AdaptiveBeta | Mapping[str, float] | None = None
    gamma: float
    normalise_scores: bool = False
    score_clip: float | None = None
    missing_eos_penalty: float = 0.0
    entropy_coef: float = 0.0
    target_kl: float | None = None
    critic: str | None = None
    critic_warmup: int = 0
    critic_from: str | None = None
    policy_from: str | None = None
    normalise: str
    max_grad_norm: float | None
    optimizer: Any
    value_lr: float | None
    lr_decay: str
    evaluate_every: int
    val_prompts: int
    seed: int

    def __post_init__(self):
        object.__setattr__(self, "adaptive_beta", _controller(self.adaptive_beta))
        self._require_ranges()
        self._require_agreement()

    def _require_ranges(self) -> None:
        """Each option by itself."""
        counts = (
            "iterations",
            "prompts_per_iteration",
            "samples_per_prompt",
            "epochs",
            "minibatches",
            "evaluate_every",
            "val_prompts",
        )
        require_at_least(1, "algo", **{name: getattr(self, name) for name in counts})
        not_negative = ("beta", "missing_eos_penalty", "entropy_coef", "critic_warmup")
        require_at_least(0, "algo", **{name: getattr(self, name) for name in not_negative})
        tokens = self.micro_batch_tokens
        require(
            tokens == AUTO or not isinstance(tokens, str),
            "algo.micro_batch_tokens",
            tokens,
            f"must be a number of tokens, {AUTO}: as many as fit, or null: no limit",
        )
        for name in (
            "micro_batch_size",
            "micro_batch_tokens",
            "score_clip",
            "target_kl",
            "max_grad_norm",
            "value_lr",
        ):
            value = getattr(self, name)
            require(
                value is None or value == AUTO or value > 0,
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
            require(value in choices, f"algo.{name}", value, one_of(choices))

    def _require_agreement(self) -> None:
        """Options beside each other."""
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

    @property
    def updates(self) -> int:
        """Optimiser steps of the policy on one rollout."""
        return self.epochs * self.minibatches

    @property
    def all_iterations(self) -> int:
        """With those of the critic's warm-up, which come before the others and are counted on."""
        return self.critic_warmup + self.iterations

    def evaluations(self, done: int) -> int:
        """How often held-out prompts are answered in the first `done` of `all_iterations`: after
        every `evaluate_every` that the policy learns in, and after the last one.
        """
        learnt = max(0, done - self.critic_warmup)
        last = learnt == self.iterations and learnt % self.evaluate_every > 0
        return learnt // self.evaluate_every + last


def _controller(given: AdaptiveBeta | Mapping[str, float] | None) -> AdaptiveBeta | None:
    if given is None or isinstance(given, AdaptiveBeta):
        return given
    require(
        isinstance(given, Mapping) and set(given) == {"target", "horizon"},
        "algo.adaptive_beta",
        given,
        "must be {target: nats, horizon: episodes}, or null",
    )
    return AdaptiveBeta(**given)


@dataclass(frozen=True, kw_only=True)
class ReinforceOptions(PolicyOptions):
    """What conf/algo/reinforce.yaml adds."""

    returns: str
    baseline: str
    importance: str

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (
            ("returns", RETURNS),
            ("baseline", BASELINES),
            ("importance", IMPORTANCE),
        ):
            value = getattr(self, name)
            require(value in choices, f"algo.{name}", value, one_of(choices))
        for name, none in (("critic", None), ("critic_warmup", 0), ("critic_from", None)):
            value = getattr(self, name)
            require(value == none, f"algo.{name}", value, "belongs to algo=a2c and algo=ppo")
        require(
            self.baseline != "leave_one_out" or self.samples_per_prompt > 1,
            "algo.samples_per_prompt",
            self.samples_per_prompt,
            "algo.baseline=leave_one_out needs at least 2 samples of a prompt",
        )
        require(
            self.baseline != "mean" or self.sequences_per_iteration > 1,
            "algo.prompts_per_iteration",
            self.prompts_per_iteration,
            "algo.baseline=mean needs more than one response: the mean of one is its own return",
        )
        require(
            self.importance != "none" or self.updates == 1,
            "algo.importance",
            self.importance,
            f"only the first of {self.updates} updates on a rollout is on-policy; the others need"
            " weights: algo.importance=sequence or token",
        )


@dataclass(frozen=True, kw_only=True)
class ActorCriticOptions(PolicyOptions):
    """What conf/algo/base/actor_critic.yaml adds."""

    lam: float
    value_coef: float
    whiten_advantages: bool

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.lam <= 1, "algo.lam", self.lam, "must lie in [0, 1]")
        require(self.critic is not None, "algo.critic", None, f"must be given: {self.name} has one")


@dataclass(frozen=True, kw_only=True)
class A2COptions(ActorCriticOptions):
    """What conf/algo/a2c.yaml adds."""

    value_updates: int

    def __post_init__(self):
        super().__post_init__()
        require_at_least(1, "algo", value_updates=self.value_updates)
        require(self.value_coef > 0, "algo.value_coef", self.value_coef, "must be greater than 0")
        require(
            self.updates == 1,
            "algo.epochs x algo.minibatches",
            self.updates,
            "A2C makes one policy update a rollout; algo=ppo is made for several",
        )


@dataclass(frozen=True, kw_only=True)
class PPOOptions(ActorCriticOptions):
    """What conf/algo/ppo.yaml adds."""

    clip_range: float | Sequence[float]
    dual_clip: float | None = None
    value_clip_range: float | None = None

    def __post_init__(self):
        super().__post_init__()
        low_high = self.clip_bounds
        require(
            len(low_high) == 2 and all(isinstance(x, int | float) and x > 0 for x in low_high),
            "algo.clip_range",
            self.clip_range,
            "must be greater than 0: a number, or [low, high]",
        )
        require(
            self.dual_clip is None or self.dual_clip > 1,
            "algo.dual_clip",
            self.dual_clip,
            "must be greater than 1, or null to do without",
        )
        require(
            self.value_clip_range is None or self.value_clip_range > 0,
            "algo.value_clip_range",
            self.value_clip_range,
            "must be greater than 0, or null to do without",
        )
        require_at_least(0, "algo", value_coef=self.value_coef)

    @property
    def clip_bounds(self) -> tuple[float, ...]:
        """(low, high): the importance weight is clipped to [1 - low, 1 + high]."""
        both = isinstance(self.clip_range, Sequence) and not isinstance(self.clip_range, str)
        return tuple(self.clip_range) if both else (self.clip_range, self.clip_range)
