"""The main curves of one training as a picture, from the rows of its metrics.csv."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.disk.files import writing
from harness.pictures.panels import AT_START, POLICY, SUPERVISED, Panel
from harness.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]  # of numbers, or of their texts; what was not logged is missing
Line = tuple[list[float], list[float]]
EPISODES = "rollout/episodes"
COLUMNS = 3
SIZE = (3.7, 2.5)  # inches of a panel
DPI = 110
MANY = 30  # points that need no markers
COLOURS = ("tab:blue", "tab:orange")


def draw_run(rows: Rows, title: str, path: Path, *, from_reference: bool = True) -> None:
    """Held-out curves beside those of training, the reference dashed: over episodes for a policy,
    over optimiser steps for SFT and reward models. Nothing is drawn where nothing was logged. The
    curves of a policy begin with what its reference has, if that is what it began as.
    """
    from matplotlib.figure import Figure  # takes a second to import

    panels = shown_panels(rows)
    if not panels:
        return
    across = min(COLUMNS, len(panels))
    down = -(-len(panels) // across)
    size = (max(across * SIZE[0], 6), down * SIZE[1] + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    places = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, axes in zip(panels, places, strict=False):
        _draw_panel(axes, panel, rows, from_reference)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(printable(title), fontsize=11)
    with writing(path):
        figure.savefig(path, dpi=DPI)


def shown_panels(rows: Rows) -> list[Panel]:
    """The panels of which there is something to see: a metric that is not 0 throughout."""
    known = POLICY if _x_axis(rows) == EPISODES else SUPERVISED
    return [p for p in known if any(any(curve(rows, metric)[1]) for metric in p.metrics)]


def curve(rows: Rows, metric: str, from_reference: bool = True) -> Line:
    """Where a metric was logged, and its values there; a held-out one begins with the reference's
    at 0 episodes, if the policy did. What is undefined is no point.
    """
    x_axis = _x_axis(rows)
    points = [
        (float(row[x_axis]), value) for row in rows if (value := _value(row, metric)) is not None
    ]
    start = _level(rows, AT_START.get(metric)) if from_reference and x_axis == EPISODES else None
    if points and start is not None:
        points.insert(0, (0.0, start))
    return [x for x, _ in points], [y for _, y in points]


def _draw_panel(axes: "Axes", panel: Panel, rows: Rows, from_reference: bool) -> None:
    for metric, colour in zip(panel.metrics, COLOURS, strict=False):
        x, y = curve(rows, metric, from_reference)
        if not x:
            continue
        main = metric == panel.metrics[0]
        axes.plot(
            x,
            y,
            color=colour,
            label=metric,
            lw=1.6 if main else 0.9,
            alpha=1 if main else 0.6,
            marker="." if len(x) < MANY else "",
            zorder=3 if main else 2,
        )
    if panel.band:
        (x, low), (_, high) = (curve(rows, end) for end in panel.band)
        axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="95% interval")
    if (level := _level(rows, panel.level)) is not None:
        name = panel.level if isinstance(panel.level, str) else f"even: {level:g}"
        axes.axhline(level, ls="--", lw=1, color="grey", label=name)
    axes.set_title(panel.title, fontsize=10)
    over = "episodes" if _x_axis(rows) == EPISODES else "optimiser steps"
    axes.set_xlabel(over, fontsize=8)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)


def _x_axis(rows: Rows) -> str:
    return EPISODES if any(EPISODES in row for row in rows) else "step"


def _level(rows: Rows, level: str | float | None) -> float | None:
    """A number, or the last value of the metric that `level` names."""
    if not isinstance(level, str):
        return level
    values = [value for row in rows if (value := _value(row, level)) is not None]
    return values[-1] if values else None


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    """None where it was not logged, or is not finite."""
    logged = row.get(metric)
    value = math.nan if logged in (None, "") else float(logged)
    return value if math.isfinite(value) else None
