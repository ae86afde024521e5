"""What the policies began as: their references, in numbers and as the first point of each curve."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.comparison import statistics
from harness.comparison.grouping import Configuration
from harness.comparison.reading import INPUTS, Curve, PolicyRun
from harness.comparison.statistics import Estimate
from harness.pictures.panels import AT_START

# Of what a policy has at its start, what is known and what the reference's responses tell.
KNOWN = {metric: start for metric, start in AT_START.items() if isinstance(start, float)}
MEASURED = {metric: start for metric, start in AT_START.items() if isinstance(start, str)}
# What the numbers of a reference depend on besides stages and seed.
SHAPED_BY = ("model.", "data.", "reward.", INPUTS, "algo.temperature", "algo.val_prompts")
NO_PART = ("model.lr.", "model.name", "data.recommended.")
STAGES = ("sft", "reward_model")
NAMED = 2  # configurations in a reference's name


@dataclass(frozen=True)
class Reference:
    """A reference by what its policies are called, and the seeds of its responses.

    `finals` are means over seeds: runs of one seed have the same responses of the reference.
    """

    name: str
    seeds: list[int]
    finals: dict[str, Estimate]


def references(configurations: Sequence[Configuration]) -> list[Reference]:
    """The references of which anything is known, in the order of the configurations."""
    runs: dict[str, list[PolicyRun]] = defaultdict(list)
    names: dict[str, list[str]] = defaultdict(list)
    for configuration in configurations:
        for run in configuration.runs:
            if any(run.final(start) is not None for start in MEASURED.values()):
                runs[_mark(run)].append(run)
                names[_mark(run)].append(configuration.name)
    alone = len(runs) == 1
    return [
        Reference(
            "reference" if alone else _name(list(dict.fromkeys(names[mark]))),
            sorted({run.seed for run in of_mark}),
            {m: value for m in MEASURED if (value := _over_seeds(of_mark, MEASURED[m]))},
        )
        for mark, of_mark in runs.items()
    ]


def from_start(run: PolicyRun, metric: str) -> Curve | None:
    """The metric's curve with what the reference has at 0 episodes, where training begins; as it
    was logged where that is not known or the policy began as another, None where nothing was.
    """
    curve = run.curves.get(metric)
    start = KNOWN.get(metric, run.final(MEASURED.get(metric, "")))
    if run.config.get("algo.policy_from") or start is None:
        return curve
    if curve is None or not curve.episodes[0] > 0:
        return curve
    return Curve(*(np.insert(a, 0, b) for a, b in zip(_arrays(curve), (0, start, 0), strict=True)))


def _arrays(curve: Curve) -> tuple:
    return curve.episodes, curve.values, curve.seconds


def _over_seeds(runs: Sequence[PolicyRun], metric: str) -> Estimate | None:
    by_seed: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if (value := run.final(metric)) is not None:
            by_seed[run.seed].append(value)
    means = [float(np.mean(values)) for values in by_seed.values()]
    return statistics.mean(np.array(means)) if means else None


def _mark(run: PolicyRun) -> str:
    options = {
        key: value
        for key, value in run.config.items()
        if key.startswith(SHAPED_BY) and not key.startswith(NO_PART)
    }
    stages = [Path(run.summary.get(f"stages/{name}/path") or "").name for name in STAGES]
    return json.dumps([stages, options], sort_keys=True)


def _name(configurations: Sequence[str]) -> str:
    more = f" and {len(configurations) - NAMED} more" if len(configurations) > NAMED else ""
    return f"reference of {'; '.join(configurations[:NAMED])}{more}"
