"""Rounds as a picture: the policy's curves one after the other, and its reward models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.disk.files import writing
from harness.pictures.panels import panel_of
from harness.pictures.run_curves import DPI, EPISODES, SIZE, Rows, curve
from harness.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("val/gold", "val/score", "val/kl")
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
OWN, HELD_OUT = "own_answers/accuracy", "stages/reward_model/val/accuracy"


def draw_rounds(
    rows: Sequence[Rows], summaries: Sequence[Mapping[str, Any]], title: str, path: Path
) -> None:
    """Gold, score and KL over the episodes of all rounds, each round's part in its colour, and the
    accuracy of each round's reward model; `rows` are those of each round's metrics.csv, `summaries`
    have the accuracies. Scores of two rounds are of two reward models.
    """
    from matplotlib.figure import Figure  # takes a second to import

    shown = [name for name in METRICS if any(curve(own, name)[0] for own in rows)]
    count = len(shown) + any(OWN in summary for summary in summaries)
    across = min(2, count)
    down = -(-count // across)
    figure = Figure(figsize=(across * 1.25 * SIZE[0], down * SIZE[1] + 0.5), layout="constrained")
    places = list(figure.subplots(down, across, squeeze=False).flat)
    for name, axes in zip(shown, places, strict=False):
        _draw_curves(axes, name, rows)
    if count > len(shown):
        _draw_accuracies(places[len(shown)], summaries)
    for axes in places[count:]:
        axes.set_axis_off()
    figure.suptitle(printable(title), fontsize=11)
    with writing(path):
        figure.savefig(path, dpi=DPI)


def _draw_curves(axes: "Axes", name: str, rows: Sequence[Rows]) -> None:
    panel = panel_of(name)
    before, last = 0.0, None
    for number, own in enumerate(rows, start=1):
        x, y = curve(own, name, from_reference=number == 1)
        x = [episodes + before for episodes in x]
        if last is not None and name != "val/score":  # it goes on where the round before ended
            x, y = [before, *x], [last, *y]
        colour = COLOURS[(number - 1) % len(COLOURS)]
        axes.plot(x, y, color=colour, marker=".", lw=1.6, label=f"round {number}")
        if number > 1:
            axes.axvline(before, color="lightgrey", lw=1, zorder=0)
        before, last = before + _episodes(own), y[-1] if y else last
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("episodes", fontsize=8)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)


def _episodes(rows: Rows) -> float:
    return max((float(row[EPISODES]) for row in rows if row.get(EPISODES)), default=0.0)


def _draw_accuracies(axes: "Axes", summaries: Sequence[Mapping[str, Any]]) -> None:
    places = range(1, len(summaries) + 1)
    for name, label, colour in (
        (OWN, "on the answers of its policy", COLOURS[0]),
        (HELD_OUT, "on held-out pairs", "grey"),
    ):
        known = [(k, s) for k, s in zip(places, summaries, strict=True) if s.get(name) is not None]
        shares = [s[name] for _, s in known]
        ends = [[s.get(f"{name}_ci_{end}", s[name]) for _, s in known] for end in ("low", "high")]
        gaps = [[abs(share - end) for share, end in zip(shares, of, strict=True)] for of in ends]
        at = [k for k, _ in known]
        axes.errorbar(at, shares, gaps, fmt="o-", capsize=3, color=colour, label=label)
    axes.axhline(0.5, ls="--", lw=1, color="grey", label="a coin")
    axes.set_xticks(list(places))
    axes.set_title("reward model", fontsize=10)
    axes.set_xlabel("round", fontsize=8)
    axes.set_ylabel("share of pairs in order", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)
