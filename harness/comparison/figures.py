"""The pictures of a comparison: learning curves with bands, and the frontier of score over KL."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.comparison.grouping import Configuration
from harness.comparison.reading import CURVES, GOLD, KL, SCORE, Array, Curve
from harness.comparison.references import KNOWN, from_start, references
from harness.comparison.statistics import mean_band
from harness.disk.files import writing
from harness.pictures.panels import panel_of
from harness.printable import printable

DRAWN = 10  # configurations in a picture; colours run out
REFERENCE = "reference"
COLOURS = colormaps["tab10"].colors
MANY = 15  # points that need no markers


class Layout(NamedTuple):
    """How many panels are beside each other, and how large they are."""

    columns: int
    panel: tuple[float, float]  # inches
    dpi: int


WIDE = Layout(2, (4.6, 2.9), 110)
NARROW = Layout(1, (3.7, 2.6), 160)  # of a phone's width


def drawn_curves(configurations: Sequence[Configuration]) -> list[str]:
    """The metrics of CURVES that any of the drawn configurations has, and not as 0 throughout."""
    drawn = [run for c in configurations[:DRAWN] for run in c.runs]
    return [m for m in CURVES if any(m in r.curves and r.curves[m].values.any() for r in drawn)]


def draw_curves(
    configurations: Sequence[Configuration],
    path: Path,
    layout: Layout = WIDE,
    metrics: Sequence[str] | None = None,
) -> None:
    """Each metric (None: all that there are) over episodes: mean over seeds, with a 95% bootstrap
    band of the mean.
    """
    metrics = metrics or drawn_curves(configurations)
    figure, panels = _figure(len(metrics), layout)
    for metric, axes in zip(metrics, panels, strict=False):
        _draw_metric(axes, configurations, metric)
    _finish(figure, "Learning curves, means over seeds", configurations, path, layout)


def draw_frontier(
    configurations: Sequence[Configuration], path: Path, layout: Layout = WIDE
) -> bool:
    """Score over sqrt(KL) through training, gold beside it where known; whether there is any.

    Means over seeds at equal episodes, from the reference at KL 0 to the filled point, the last
    one (Gao et al. 2023, fig. 1).
    """
    metrics = [m for m in (SCORE, GOLD) if any(_frontier(c, m) for c in configurations[:DRAWN])]
    if not metrics:
        return False
    figure, panels = _figure(len(metrics), layout)
    for metric, axes in zip(metrics, panels, strict=False):
        for configuration, colour in zip(configurations, COLOURS, strict=False):
            if line := _frontier(configuration, metric):
                axes.plot(*line, ".-", color=colour, ms=5, lw=1)
                axes.plot(line[0][-1], line[1][-1], "o", color=colour, ms=8)
        _name(axes, metric)
        axes.set_xlabel("√(KL to the reference), √nats a response", fontsize=8)
        _reference_line(axes, configurations, metric)
    _finish(figure, "From the reference to the end of training", configurations, path, layout)
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


def _figure(count: int, layout: Layout) -> tuple[Figure, list[Axes]]:
    """A figure of at least `count` panels, those that are not needed without axes."""
    columns = min(layout.columns, max(1, count))
    rows = max(1, -(-count // columns))
    size = (columns * layout.panel[0], rows * layout.panel[1] + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def _draw_metric(axes: Axes, configurations: Sequence[Configuration], metric: str) -> None:
    for configuration, colour in zip(configurations, COLOURS, strict=False):
        curves = _curves(configuration, metric)
        if not curves:
            continue
        episodes, values = aligned(curves)
        if not len(episodes):
            continue
        average, low, high = mean_band(values)
        marker = "." if len(episodes) < MANY else ""
        axes.plot(episodes, average, color=colour, lw=1.4, marker=marker)
        if len(curves) > 1:
            axes.fill_between(episodes, low, high, color=colour, alpha=0.18, lw=0)
    _name(axes, metric)
    axes.set_xlabel("episodes", fontsize=8)
    _reference_line(axes, configurations, metric)


def _curves(configuration: Configuration, metric: str) -> list[Curve]:
    """Of all seeds that have one; each begins where training does, if that is known for all."""
    runs = [run for run in configuration.runs if metric in run.curves]
    curves = [from_start(run, metric) for run in runs]
    if len({curve.episodes[0] for curve in curves}) > 1:
        return [run.curves[metric] for run in runs]
    return curves


def _frontier(configuration: Configuration, metric: str) -> tuple[Array, Array] | None:
    """sqrt(KL) and the metric, means over seeds at equal episodes; None where one is unknown."""
    curves = _curves(configuration, metric)
    distances = _curves(configuration, KL)
    if not curves or len(curves) != len(distances):
        return None
    at_kl, kl = aligned(distances)
    at, values = aligned(curves)
    both = np.intersect1d(at_kl, at)
    if not len(both):
        return None
    mean_kl = kl.mean(axis=0)[np.isin(at_kl, both)]
    # A mean of estimates can be below 0 where the KL is next to nothing.
    return np.sqrt(np.maximum(mean_kl, 0)), values.mean(axis=0)[np.isin(at, both)]


def _name(axes: Axes, metric: str) -> None:
    """Title and unit of a metric, and small numbers."""
    panel = panel_of(metric)
    axes.set_title(f"{panel.title} ({metric})", fontsize=9)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=8)


def _reference_line(axes: Axes, configurations: Sequence[Configuration], metric: str) -> None:
    """A dashed line at what the reference has, a mean over seeds, where it is one for all runs."""
    found = references(configurations[:DRAWN])
    measured = found[0].finals.get(metric) if len(found) == 1 else None
    level = KNOWN.get(metric, measured.value if measured else None)
    if level is not None:
        axes.axhline(level, ls="--", lw=1, color="grey", label=REFERENCE)


def _finish(
    figure: Figure,
    title: str,
    configurations: Sequence[Configuration],
    path: Path,
    layout: Layout,
) -> None:
    dashed = [line for axes in figure.axes for line in axes.lines if line.get_label() == REFERENCE]
    handles = [
        figure.axes[0].plot([], [], color=colour, label=printable(c.name))[0]
        for c, colour in zip(configurations, COLOURS, strict=False)
    ]
    style = {"loc": "outside lower center", "frameon": False, "fontsize": 8}
    figure.legend(handles=[*handles, *dashed[:1]], ncols=layout.columns, **style)
    figure.suptitle(title, fontsize=10)
    with writing(path):
        figure.savefig(path, dpi=layout.dpi)
