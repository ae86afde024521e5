"""What metrics are called in pictures, in which units, and where their curves begin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One pair of axes: metrics of one unit, the first of them the main one.

    `level` is drawn as a dashed line: a number, or a metric that is constant. `band` are the ends
    of an interval of the first metric.
    """

    title: str
    unit: str
    metrics: tuple[str, ...]
    level: str | float | None = None
    band: tuple[str, str] | None = None


# What a policy has before its first update, when it is its reference: a number that is known, or
# the metric that the reference has.
AT_START: dict[str, float | str] = {
    "val/score": "reference/score",
    "val/reward": "reference/score",  # nothing is taken off where there is no KL
    "val/gold": "reference/gold",
    "val/held_out_score": "reference/held_out_score",
    "val/length": "reference/length",
    "val/kl": 0.0,
    "val/win_rate": 0.5,
}
REWARD = Panel("reward: score less KL penalty", "score", ("val/reward", "rollout/reward"))
POLICY = (
    Panel("score", "score", ("val/score", "rollout/score"), "reference/score"),
    Panel("gold", "true quality, 0 to 1", ("val/gold",), "reference/gold"),
    Panel("held-out head", "score", ("val/held_out_score",), "reference/held_out_score"),
    Panel("KL to the reference", "nats a response", ("val/kl", "rollout/kl")),
    Panel(
        "win rate against the reference",
        "share of prompts",
        ("val/win_rate",),
        0.5,
        ("val/win_rate_ci_low", "val/win_rate_ci_high"),
    ),
    Panel("length", "tokens a response", ("val/length", "rollout/length"), "reference/length"),
    Panel("entropy", "nats a token", ("val/entropy", "rollout/entropy")),
    Panel("clip fraction", "share of tokens", ("train/clip_fraction",)),
    Panel("explained variance", "share of the returns' variance", ("train/explained_variance",)),
)
SUPERVISED = (
    Panel("loss", "nats", ("val/loss", "train/loss")),
    Panel(
        "accuracy",
        "share of pairs in order",
        ("val/accuracy", "train/accuracy"),
        "val/accuracy_longer",
        ("val/accuracy_ci_low", "val/accuracy_ci_high"),
    ),
    Panel(
        "AUC of thumbs",
        "share of responses in order",
        ("val/thumbs_auc",),
        "val/thumbs_auc_longer",
        ("val/thumbs_auc_ci_low", "val/thumbs_auc_ci_high"),
    ),
    Panel(
        "accuracy of thumbs",
        "share of thumbs",
        ("val/thumbs_accuracy", "train/thumbs_accuracy"),
        "val/thumbs_majority",
        ("val/thumbs_accuracy_ci_low", "val/thumbs_accuracy_ci_high"),
    ),
    Panel("learning rate", "learning rate", ("train/lr",)),
)


def panel_of(metric: str) -> Panel:
    """The panel that a policy's metric belongs to."""
    return next(panel for panel in (*POLICY, REWARD) if metric in panel.metrics)
