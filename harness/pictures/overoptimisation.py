"""Score and gold over the distance from the reference, from the start of training to its end."""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from harness.disk.files import writing
from harness.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Point = Mapping[str, float]  # rollout/episodes, val/kl, val/score, watched
SCORE, WATCHED = "tab:blue", "tab:orange"
ARROWS = 6  # along a curve
FAINTEST = 0.3
DPI = 110


def draw(points: Sequence[Point], watched: str, title: str, picture: Path) -> None:
    """Score and watched curve over the square root of the KL, in which Gao et al. (2023) found them
    to be nearly straight and parabolic.

    `points` are in the order of training, from 0 episodes on if the reference is known; arrows and
    darker points lead to the last one. `watched` is what the second curve is.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    distance = [sqrt(max(p["val/kl"], 0.0)) for p in points]
    scores, others = ([p[name] for p in points] for name in ("val/score", "watched"))
    handles = [
        _draw_way(left, distance, scores, "o", SCORE, "score, trained on (left axis)"),
        _draw_way(right, distance, others, "s", WATCHED, f"{watched}, watched (right axis)"),
    ]
    first, last = points[0]["rollout/episodes"], points[-1]["rollout/episodes"]
    for axes, values in ((left, scores), (right, others)):
        axes.plot(distance[0], values[0], "o", ms=11, mfc="none", mec="black", mew=1.2, zorder=5)
    begin = (
        "start: the reference, at 0 episodes" if not first else f"first, at {first:,.0f} episodes"
    )
    handles += left.plot([], [], "o", ms=9, mfc="none", mec="black", label=begin)
    handles += left.plot([], [], " ", label=f"arrows and darker points: later, up to {last:,.0f}")
    left.set_xlabel("√(KL to the reference), √nats a response")
    left.set_ylabel("score", color=SCORE)
    right.set_ylabel(watched, color=WATCHED)
    left.set_title(printable(title), fontsize=11)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    with writing(picture):
        figure.savefig(picture, dpi=DPI)


def _draw_way(
    axes: "Axes", x: Sequence[float], y: Sequence[float], marker: str, colour: str, label: str
) -> "Line2D":
    """A curve whose direction can be seen; returns what stands for it in a legend."""
    axes.plot(x, y, "-", color=colour, lw=1, alpha=0.6)
    count = len(x)
    shades = [1 - (1 - FAINTEST) * (count - 1 - i) / max(1, count - 1) for i in range(count)]
    axes.scatter(x, y, s=26, marker=marker, color=colour, alpha=shades, zorder=3, lw=0)
    arrows = min(ARROWS, count - 1)
    for i in (k * (count - 1) // arrows for k in range(arrows)):
        middle = (x[i] + x[i + 1]) / 2, (y[i] + y[i + 1]) / 2
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", middle, (x[i], y[i]), arrowprops=style)
    (handle,) = axes.plot([], [], marker=marker, color=colour, label=label)
    return handle
