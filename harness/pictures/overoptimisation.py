"""Score and gold over the distance from the reference, from the start of training to its end."""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from harness.disk.files import writing
from harness.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, float]  # rollout/episodes, val/kl, val/score, watched
SCORE, WATCHED = "tab:blue", "tab:orange"
ARROWS = 6  # along a curve
FAINTEST = 0.3
DPI = 110


def draw(points: Sequence[Point], watched: str, title: str, picture: Path) -> None:
    """Score and watched curve, one above the other, over the square root of the KL, in which Gao et
    al. (2023) found them to be nearly straight and parabolic.

    `points` are in the order of training, from 0 episodes on if the reference is known; arrows and
    darker points lead to the last one. `watched` is what the second curve is.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    distance = [sqrt(max(p["val/kl"], 0.0)) for p in points]
    _draw_way(upper, distance, [p["val/score"] for p in points], SCORE, "score, trained on")
    _draw_way(lower, distance, [p["watched"] for p in points], WATCHED, f"{watched}, watched only")
    lower.set_xlabel("√(KL to the reference), √nats a response")
    figure.suptitle(printable(title), fontsize=11)
    first, last = (points[i]["rollout/episodes"] for i in (0, -1))
    begin = "start: the reference" if not first else "first evaluation"
    style = {"marker": "o", "ls": "", "color": "black"}
    handles = [
        *upper.plot([], [], mfc="none", ms=9, label=f"{begin}, at {first:,.0f} episodes", **style),
        *upper.plot([], [], ms=5, label=f"end, at {last:,.0f} episodes", **style),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    with writing(picture):
        figure.savefig(picture, dpi=DPI)


def _draw_way(axes: "Axes", x: Sequence[float], y: Sequence[float], colour: str, name: str) -> None:
    """A curve whose direction can be seen, its start in a circle."""
    axes.plot(x, y, "-", color=colour, lw=1, alpha=0.6)
    count = len(x)
    shades = [1 - (1 - FAINTEST) * (count - 1 - i) / max(1, count - 1) for i in range(count)]
    axes.scatter(x, y, s=26, color=colour, alpha=shades, zorder=3, lw=0)
    axes.plot(x[0], y[0], "o", ms=11, mfc="none", mec="black", mew=1.2, zorder=4)
    axes.plot(x[-1], y[-1], "o", ms=5, color="black", zorder=4)
    arrows = min(ARROWS, count - 1)
    for i in (k * (count - 1) // arrows for k in range(arrows)):
        middle = (x[i] + x[i + 1]) / 2, (y[i] + y[i + 1]) / 2
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", middle, (x[i], y[i]), arrowprops=style)
    axes.set_ylabel(name, fontsize=9)
    axes.tick_params(labelsize=8)
