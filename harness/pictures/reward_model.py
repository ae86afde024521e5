"""The pictures of a reward model's report, each a small PNG drawn from numbers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_modules.metrics.intervals import wilson_interval
from lightning_modules.metrics.preferences import Bucket

SIZE = (6.2, 3.8)  # inches
DPI = 110
HISTOGRAM_BINS = 40
COLOUR, OTHER = "tab:blue", "tab:orange"


def draw_reliability(title: str, buckets: Sequence[Bucket], path: Path) -> None:
    """Accuracy over predicted probability with its intervals, and below it the pairs in each bin.

    Probabilities are those of the predicted preference, so both axes begin at a half.
    """
    figure = Figure(figsize=(SIZE[0], 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0.5, 1], [0.5, 1], "--", color="grey", label="calibrated")
    _with_intervals(upper, [b.predicted for b in buckets], buckets)
    upper.set(title=title, ylabel="share of pairs in the right order", ylim=(0, 1.02))
    upper.legend(frameon=False, loc="lower right")
    lower.bar(
        [b.low for b in buckets],
        [b.pairs for b in buckets],
        [b.high - b.low for b in buckets],
        align="edge",
        color=COLOUR,
        edgecolor="white",
    )
    lower.set(xlabel="predicted probability of the preference", ylabel="pairs", xlim=(0.49, 1.01))
    figure.savefig(path, dpi=DPI)


def draw_thumbs(predicted: Tensor, liked: Tensor, bins: int, path: Path) -> None:
    """The share of thumbs up over its predicted probability (U,), with its Wilson interval, and
    below it the thumbs in each bin.
    """
    figure = Figure(figsize=(SIZE[0], 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    place = (predicted * bins).long().clamp(0, bins - 1)
    buckets = []
    for k in place.unique().tolist():
        here = place == k
        share, count = float(liked[here].double().mean()), int(here.sum())
        bounds = wilson_interval(share, count)
        middle = float(predicted[here].mean())
        buckets.append(Bucket(k / bins, (k + 1) / bins, count, share, *bounds, middle))
    _with_intervals(upper, [b.predicted for b in buckets], buckets)
    upper.set(title="Thumbs", ylabel="share of thumbs up", ylim=(-0.02, 1.02))
    upper.legend(frameon=False, loc="upper left")
    width = 1 / bins
    lower.bar([b.low for b in buckets], [b.pairs for b in buckets], width, align="edge")
    lower.set(xlabel="predicted probability of a thumb up", ylabel="thumbs", xlim=(-0.01, 1.01))
    figure.savefig(path, dpi=DPI)


def draw_accuracy(
    title: str, buckets: Sequence[Bucket], names: Sequence[str], xlabel: str, path: Path
) -> None:
    """Accuracy of each bucket with its interval, what is predicted, and the line of a coin."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    places = range(len(buckets))
    axes.axhline(0.5, ls="--", color="grey", label="a coin")
    _with_intervals(axes, places, buckets)
    axes.plot(places, [b.predicted for b in buckets], "_", ms=16, color=OTHER, label="predicted")
    several = [name.replace(" to ", "\nto ") for name in names]
    labels = [f"{name}\n{b.pairs:,} pairs" for name, b in zip(several, buckets, strict=True)]
    axes.set_xticks(places, labels, fontsize=8)
    axes.set(title=title, xlabel=xlabel, ylabel="share of pairs in the right order", ylim=(0, 1.02))
    axes.set_xlim(-0.5, len(buckets) - 0.5)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=DPI)


def draw_scores(title: str, chosen: Tensor, rejected: Tensor, path: Path) -> None:
    """Histograms of the scores (N,) of chosen and rejected responses over the same bins."""
    both = torch.cat([chosen, rejected])
    low, high = float(both.min()), float(both.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for scores, colour, name in ((chosen, COLOUR, "chosen"), (rejected, OTHER, "rejected")):
        axes.hist(
            scores.tolist(),
            bins=HISTOGRAM_BINS,
            range=(low, high),
            color=colour,
            alpha=0.55,
            label=name,
        )
    axes.set(title=title, xlabel="score", ylabel="responses")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=DPI)


def _with_intervals(axes: Axes, places: Sequence[float], buckets: Sequence[Bucket]) -> None:
    # A share of 1 lies on its interval's end, and rounding may put it a hair outside.
    below = [max(0.0, b.accuracy - b.ci_low) for b in buckets]
    above = [max(0.0, b.ci_high - b.accuracy) for b in buckets]
    axes.errorbar(
        places,
        [b.accuracy for b in buckets],
        yerr=(below, above),
        fmt="o",
        color=COLOUR,
        capsize=3,
        label="seen, with 95% interval",
    )
