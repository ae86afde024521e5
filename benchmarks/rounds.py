"""Rounds of feedback beside each other, over seeds: equal labels and iterations in all.

    python run.py -m task=rounds rounds=1 ... seed=1,2,3 hydra.sweep.dir=<one>
    python run.py -m task=rounds rounds=3 ... seed=1,2,3 hydra.sweep.dir=<three>
    python benchmarks/rounds.py <one> <three> --picture docs/figures/rounds.png

Prints what the last round of each sweep's runs has come to, with 95% intervals over seeds, and the
differences of the same seeds; draws the curves of all rounds one after the other.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from harness.comparison import statistics  # noqa: E402
from harness.comparison.figures import aligned  # noqa: E402
from harness.comparison.reading import Curve, read_curves  # noqa: E402
from harness.disk.files import STATE, SUMMARY, read_json  # noqa: E402
from harness.pictures.panels import panel_of  # noqa: E402
from harness.pictures.run_curves import COLOURS  # noqa: E402

CURVES = ("val/gold", "val/score", "val/kl")
OWN, HELD_OUT = "own_answers/accuracy", "stages/reward_model/val/accuracy"
SHOWN = {
    "val/gold": "gold",
    "val/score": "score (proxy)",
    "val/kl": "KL, nats a response",
    OWN: "accuracy on its policy's answers",
    HELD_OUT: "accuracy on held-out pairs",
}


class Rounds:
    """The finished rounds of one job: its seed, the summary of each round, and their curves."""

    def __init__(self, folder: Path):
        config = read_json(folder / STATE)["config"]
        self.seed, self.count = config["seed"], config["rounds"]
        summary = read_json(folder / SUMMARY)
        self.rounds = [_below(summary, f"round_{number}/") for number in range(1, self.count + 1)]
        files = [folder / f"round-{n}" / "metrics.csv" for n in range(1, self.count + 1)]
        self.curves = [read_curves(file, CURVES) for file in files]

    def final(self, name: str) -> float:
        return float(self.rounds[-1][name])

    def curve(self, name: str) -> Curve:
        """Over the episodes of all rounds, from the reference on, where that has such a number."""
        start = {"val/gold": self.rounds[0].get("reference/gold"), "val/kl": 0.0}.get(name)
        episodes, values = ([], []) if start is None else ([0.0], [start])
        before = 0.0
        for curves in self.curves:
            episodes += list(curves[name].episodes + before)
            values += list(curves[name].values)
            before = episodes[-1]
        return Curve(np.array(episodes), np.array(values), np.zeros(len(values)))


def _below(summary: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in summary.items() if k.startswith(prefix)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    arms = {name_of(arm): arm for arm in map(read, options.sweeps)}
    for line in table(arms):
        print(line)
    if options.picture:
        draw(arms, options.picture)


def read(sweep: Path) -> list[Rounds]:
    """The finished rounds of a sweep, by seed."""
    folders = [file.parent for file in sweep.glob(f"*/{SUMMARY}")]
    return sorted(map(Rounds, folders), key=lambda each: each.seed)


def name_of(arm: Sequence[Rounds]) -> str:
    count = arm[0].count
    return f"{count} round{'s' * (count > 1)}"


def table(arms: Mapping[str, Sequence[Rounds]]) -> list[str]:
    """Of each arm the mean over seeds with its interval; of two the difference, seed by seed."""
    lines = [f"| | {' | '.join(arms)} | difference |", f"|---|{'---|' * (len(arms) + 1)}"]
    for name, title in SHOWN.items():
        values = [np.array([each.final(name) for each in arm]) for arm in arms.values()]
        cells = [estimate(statistics.mean(of_arm)) for of_arm in values]
        paired = estimate(statistics.mean(values[-1] - values[0])) if len(values) == 2 else ""
        lines.append(f"| {title} | {' | '.join(cells)} | {paired} |")
    return lines


def estimate(found: statistics.Estimate) -> str:
    interval = "" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.value:.3f}{interval}"


def draw(arms: Mapping[str, Sequence[Rounds]], picture: Path) -> None:
    figure = Figure(figsize=(9.2, 6.2), layout="constrained")
    places = list(figure.subplots(2, 2).flat)
    for name, axes in zip(CURVES, places, strict=False):
        _draw_curves(axes, name, arms)
    _draw_accuracies(places[-1], arms)
    figure.suptitle("Rounds: means over seeds with 95% bands", fontsize=11)
    figure.savefig(picture, dpi=110)


def _draw_curves(axes: Axes, name: str, arms: Mapping[str, Sequence[Rounds]]) -> None:
    for (title, arm), colour in zip(arms.items(), COLOURS, strict=False):
        episodes, values = aligned([each.curve(name) for each in arm])
        average, low, high = statistics.mean_band(values)
        axes.plot(episodes, average, ".-", color=colour, lw=1.4, label=title)
        axes.fill_between(episodes, low, high, color=colour, alpha=0.18, lw=0)
    panel = panel_of(name)
    _finish(axes, panel.title, "episodes", panel.unit)


def _draw_accuracies(axes: Axes, arms: Mapping[str, Sequence[Rounds]]) -> None:
    for (title, arm), colour in zip(arms.items(), COLOURS, strict=False):
        rounds = range(1, arm[0].count + 1)
        for name, style, of in ((OWN, "o-", "own answers"), (HELD_OUT, "s:", "held-out pairs")):
            values = np.array([[each[name] for each in one.rounds] for one in arm])
            average, low, high = statistics.mean_band(values)
            gaps = (average - low, high - average)
            label = f"{title}, {of}"
            axes.errorbar(rounds, average, gaps, fmt=style, capsize=3, color=colour, label=label)
    axes.axhline(0.5, ls="--", lw=1, color="grey")
    axes.set_xticks(range(1, max(arm[0].count for arm in arms.values()) + 1))
    _finish(axes, "reward model", "round", "share of pairs in order")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)


if __name__ == "__main__":
    main()
