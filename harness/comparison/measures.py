"""The numbers of a comparison: per configuration, and between two."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.comparison import statistics
from harness.comparison.grouping import Configuration
from harness.comparison.reading import GOLD, KL, LENGTH, SCORE, WIN_RATE, Array, PolicyRun
from harness.comparison.references import Reference, references
from harness.comparison.statistics import Estimate

FINALS = (SCORE, GOLD, WIN_RATE, KL, LENGTH)
ALL_PAIRS = 8  # with more configurations each is held against the best one only


@dataclass(frozen=True)
class Measured:
    """A configuration in numbers; what none of its runs knows is not in `finals`.

    `episodes` and `seconds` to the threshold are means over seeds, None unless all reach it.
    """

    configuration: Configuration
    finals: dict[str, Estimate]
    reached: int
    episodes: Estimate | None
    seconds: Estimate | None


@dataclass(frozen=True)
class Pair:
    """Two configurations: the difference of a final metric, and P(first > second).

    `by_chance`: the probability that as many seeds of equal configurations do not overlap.
    """

    first: str
    second: str
    metric: str
    difference: Estimate
    improvement: Estimate
    by_chance: float


@dataclass(frozen=True)
class Measures:
    """Everything that is said of configurations, the one of the highest mean score first."""

    threshold: float | None
    rows: list[Measured]
    references: list[Reference]
    pairs: list[Pair]

    @property
    def configurations(self) -> list[Configuration]:
        return [row.configuration for row in self.rows]


def measure(configurations: Sequence[Configuration]) -> Measures:
    """The numbers of at least one configuration, each of runs that have a final score."""
    ordered = sorted(configurations, key=lambda c: -c.finals(SCORE).mean())
    threshold = threshold_of(ordered)
    return Measures(
        threshold,
        [_measured(configuration, threshold) for configuration in ordered],
        references(ordered),
        [pair for metric in (SCORE, GOLD) for pair in _pairs(ordered, metric)],
    )


def threshold_of(ordered: Sequence[Configuration]) -> float | None:
    """Half-way from the references' mean score to the best configuration's mean final score.

    None where no reference's score is known, or no configuration is better than them.
    """
    runs = [run for configuration in ordered for run in configuration.runs]
    references = [r for run in runs if (r := run.final("reference/score")) is not None]
    if not references:
        return None
    reference, best = float(np.mean(references)), float(ordered[0].finals(SCORE).mean())
    return (reference + best) / 2 if best > reference else None


def first_reached(run: PolicyRun, threshold: float) -> tuple[float, float] | None:
    """Episodes and seconds at the first evaluation whose val/score is at least `threshold`."""
    curve = run.curves.get(SCORE)
    if curve is None or not (above := curve.values >= threshold).any():
        return None
    first = int(above.argmax())
    return float(curve.episodes[first]), float(curve.seconds[first])


def _measured(configuration: Configuration, threshold: float | None) -> Measured:
    finals = {m: v for m in FINALS if len(v := configuration.finals(m))}
    reached = [
        point
        for run in configuration.runs
        if threshold is not None and (point := first_reached(run, threshold))
    ]
    all_reached = len(reached) == len(configuration.runs)
    episodes, seconds = np.array(reached, dtype=np.float64).T if all_reached else (None, None)
    return Measured(
        configuration,
        {metric: statistics.mean(values) for metric, values in finals.items()},
        len(reached),
        None if episodes is None else statistics.mean(episodes),
        None if seconds is None else statistics.mean(seconds),
    )


def _pairs(ordered: Sequence[Configuration], metric: str) -> list[Pair]:
    finals: list[tuple[str, Array]] = [
        (c.name, values) for c in ordered if len(values := c.finals(metric))
    ]
    couples = list(combinations(finals, 2))
    if len(finals) > ALL_PAIRS:
        couples = [(finals[0], other) for other in finals[1:]]
    return [
        Pair(
            a,
            b,
            metric,
            statistics.difference(x, y),
            statistics.probability_of_improvement(x, y),
            statistics.chance_of_separation(len(x), len(y)),
        )
        for (a, x), (b, y) in couples
    ]
