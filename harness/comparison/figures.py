"""The pictures of a comparison: learning curves with bands, and the frontier of score over KL."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.comparison.grouping import Configuration
from harness.comparison.measures import GOLD, KL
from harness.comparison.reading import CURVES, SCORE, Array, Curve
from harness.comparison.statistics import mean_band
from harness.disk.files import writing
from harness.printable import printable

DPI = 110
COLUMNS = 2
PANEL = (4.6, 2.9)  # inches
DRAWN = 10  # configurations in a picture; colours run out
COLOURS = colormaps["tab10"].colors


def drawn_curves(configurations: Sequence[Configuration]) -> list[str]:
    """The metrics of CURVES that any of the drawn configurations has."""
    return [m for m in CURVES if any(m in r.curves for c in configurations[:DRAWN] for r in c.runs)]


def draw_curves(configurations: Sequence[Configuration], path: Path) -> None:
    """Each metric over episodes: mean over seeds, with a 95% bootstrap band of the mean."""
    metrics = drawn_curves(configurations)
    rows = -(-len(metrics) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL[0], rows * PANEL[1] + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for metric, axes in zip(metrics, panels, strict=False):
        _draw_metric(axes, configurations, metric)
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    _finish(figure, configurations, path)


def draw_frontier(configurations: Sequence[Configuration], path: Path) -> bool:
    """Score over sqrt(KL) through training, gold beside it where known; whether there is any.

    Means over seeds at equal episodes; the last point is the filled one (Gao et al. 2023, fig. 1).
    """
    metrics = [m for m in (SCORE, GOLD) if any(_frontier(c, m) for c in configurations[:DRAWN])]
    if not metrics:
        return False
    figure = Figure(figsize=(len(metrics) * PANEL[0], 3.8), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False).flat
    for metric, axes in zip(metrics, panels, strict=True):
        for configuration, colour in zip(configurations, COLOURS, strict=False):
            if line := _frontier(configuration, metric):
                axes.plot(*line, ".-", color=colour, ms=4, lw=1)
                axes.plot(line[0][-1], line[1][-1], "o", color=colour, ms=7)
        axes.set(xlabel="√(KL to the reference), √nats", title=metric)
        _reference_line(axes, configurations, metric)
    _finish(figure, configurations, path)
    return True


def aligned(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Episodes (T,) and values (n, T) of n curves where all of them are known.

    Curves of unequal episodes are interpolated linearly onto the points of all, over the common
    range; T is 0 where there is none.
    """
    start = max(curve.episodes[0] for curve in curves)
    end = min(curve.episodes[-1] for curve in curves)
    grid = np.unique(np.concatenate([curve.episodes for curve in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    return grid, np.array([np.interp(grid, c.episodes, c.values) for c in curves])


def _draw_metric(axes: Axes, configurations: Sequence[Configuration], metric: str) -> None:
    for configuration, colour in zip(configurations, COLOURS, strict=False):
        curves = [run.curves[metric] for run in configuration.runs if metric in run.curves]
        if not curves:
            continue
        episodes, values = aligned(curves)
        if not len(episodes):
            continue
        average, low, high = mean_band(values)
        marker = "." if len(episodes) < 15 else ""
        axes.plot(episodes, average, color=colour, lw=1.4, marker=marker)
        if len(curves) > 1:
            axes.fill_between(episodes, low, high, color=colour, alpha=0.18, lw=0)
    axes.set(title=metric)
    axes.set_xlabel("episodes", fontsize=8)
    axes.tick_params(labelsize=8)
    _reference_line(axes, configurations, metric)


def _frontier(configuration: Configuration, metric: str) -> tuple[Array, Array] | None:
    """sqrt(KL) and the metric, means over seeds at equal episodes; None where one is unknown."""
    runs = [run for run in configuration.runs if KL in run.curves and metric in run.curves]
    if not runs:
        return None
    at_kl, kl = aligned([run.curves[KL] for run in runs])
    at, values = aligned([run.curves[metric] for run in runs])
    both = np.intersect1d(at_kl, at)
    if not len(both):
        return None
    mean_kl = kl.mean(axis=0)[np.isin(at_kl, both)]
    # A mean of estimates can be below 0 where the KL is next to nothing.
    return np.sqrt(np.maximum(mean_kl, 0)), values.mean(axis=0)[np.isin(at, both)]


def _reference_line(axes: Axes, configurations: Sequence[Configuration], metric: str) -> None:
    """A dashed line at the reference's own value, where it is known and one for all runs."""
    if metric not in (SCORE, GOLD):
        return
    name = metric.replace("val/", "reference/")
    known = {run.final(name) for c in configurations[:DRAWN] for run in c.runs}
    if len(known) == 1 and None not in known:
        axes.axhline(known.pop(), ls="--", lw=1, color="grey")


def _finish(figure: Figure, configurations: Sequence[Configuration], path: Path) -> None:
    handles = [
        figure.axes[0].plot([], [], color=colour, label=printable(c.name))[0]
        for c, colour in zip(configurations, COLOURS, strict=False)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=COLUMNS, frameon=False, fontsize=8
    )
    with writing(path):
        figure.savefig(path, dpi=DPI)
