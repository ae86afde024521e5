"""Rounds in numbers: what is kept of each, a line on it, and the table of all."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.word_table import WordTable

# What the summary of all rounds says of each, as far as it is known.
KEPT = (
    "labels",
    *("val/gold", "val/score", "val/kl", "val/win_rate", "val/win_rate_ci_low"),
    *("val/win_rate_ci_high", "reference/gold", "reference/score"),
    *(f"stages/reward_model/val/{name}" for name in ("accuracy", "bayes_accuracy")),
    *(f"own_answers/accuracy{end}" for end in ("", "_ci_low", "_ci_high")),
    "own_answers/pairs",
)
COLUMNS = {
    "labels": "labels",
    "val/gold": "gold",
    "val/score": "score",
    "val/kl": "KL, nats",
    "val/win_rate": "win rate",
    "stages/reward_model/val/accuracy": "on held-out pairs",
    "own_answers/accuracy": "on its policy's answers",
}
SHORT = {"val/gold": "gold", "val/score": "score", "val/kl": "KL", "val/win_rate": "win rate"}


def kept(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a round beside the others."""
    return {name: summary[name] for name in KEPT if summary.get(name) is not None}


def told(number: int, summary: Mapping[str, Any]) -> str:
    """A round that is over, in a line."""
    numbers = [f"{word} {summary[name]:.3f}" for name, word in SHORT.items() if name in summary]
    line = f"round {number}: {', '.join(numbers)}"
    if (share := summary.get("own_answers/accuracy")) is not None:
        line += f"; its reward model is right about {share:.1%} of its policy's own answers"
    return line


def rounds_table(summaries: Sequence[Mapping[str, Any]]) -> WordTable:
    """A row a round: the policy on held-out prompts, and how often the reward model is right."""
    table = WordTable(title="on held-out prompts, and how often the reward model is right")
    names = [name for name in COLUMNS if any(s.get(name) is not None for s in summaries)]
    for column in ("round", *(COLUMNS[name] for name in names)):
        table.add_column(column)
    first = summaries[0]
    start = {"val/gold": first.get("reference/gold"), "val/kl": 0.0, "val/win_rate": 0.5}
    table.add_row("reference", *(_cell(name, start) for name in names))
    for number, summary in enumerate(summaries, start=1):
        table.add_row(str(number), *(_cell(name, summary) for name in names))
    return table


def _cell(name: str, summary: Mapping[str, Any]) -> str:
    value = summary.get(name)
    if value is None:
        return ""
    if name == "labels":
        return f"{value:,}"
    low, high = (summary.get(f"{name}_ci_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{value:.2f}" if name == "val/kl" else f"{value:.3f}{interval}"
