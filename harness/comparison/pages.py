"""What a comparison says, in blocks that Markdown, HTML and W&B share."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness.comparison.answers import answers
from harness.comparison.cautions import cautions
from harness.comparison.document import (
    Block,
    Commands,
    Facts,
    Grid,
    Heading,
    Note,
    Picture,
    Text,
    Warnings,
)
from harness.comparison.figures import DRAWN, NARROW, draw_curves, draw_frontier
from harness.comparison.grouping import ABSENT, Configuration, differing_keys, shown
from harness.comparison.measures import ALL_PAIRS, FINALS, Measured, Measures, Pair
from harness.comparison.origins import Origin, origins, when
from harness.comparison.reading import GOLD, SCORE, LeftOut, PolicyRun
from harness.comparison.references import KNOWN, Reference
from harness.comparison.statistics import LEVEL, RESAMPLES, Estimate
from harness.pictures.drawing import drawn

CURVES_PNG = "curves.png"
FRONTIER_PNG = "frontier.png"
PICTURES = {
    CURVES_PNG: "learning curves over episodes, with bands over seeds",
    FRONTIER_PNG: "score and gold over the square root of the KL",
}
MOST_LEFT_OUT = 50
MOST_COLUMNS = 6  # configurations beside each other; more are below each other
MOST_COMMANDS = 8
MOST_REFERENCES = 8
TO_THRESHOLD = "episodes to threshold"
HEADER = ("configuration", "seeds", *FINALS, TO_THRESHOLD, "seconds to threshold")


def contents(
    measures: Measures, left_out: Sequence[LeftOut], folder: Path, command: str | None = None
) -> list[Block]:
    """All of a comparison after its title; pictures are written into `folder`. `command` is the
    one that asked for it.
    """
    configurations = measures.configurations
    runs = [run for configuration in configurations for run in configuration.runs]
    made = origins(runs)
    warnings = cautions(configurations)
    if left_out:
        warnings.append(f"{_counted(len(left_out), 'run folder')} left out; named at the end.")
    return [
        Facts(_facts(configurations, runs, made)),
        *([Heading("Warnings"), Warnings(warnings)] if warnings else []),
        Heading("At the end of training"),
        Grid(
            HEADER,
            [final_row(row) for row in measures.rows],
            [reference_row(reference) for reference in measures.references[:MOST_REFERENCES]],
        ),
        Note("How to read this table", _how_to_read(measures)),
        *_pictures(configurations, folder),
        *answers(configurations),
        *_pairs(measures.pairs),
        *_options(configurations),
        *_left_out(left_out),
        Heading("Runs"),
        Grid(
            ("configuration", "seed", "finished", "folder"),
            [
                (c.name, str(run.seed), when([run.ended]), str(run.folder))
                for c in configurations
                for run in c.runs
            ],
        ),
        *_commands(made, command),
    ]


def final_row(row: Measured) -> list[str]:
    """The cells of a configuration under HEADER."""
    runs = len(row.configuration.runs)
    if row.episodes and row.seconds:
        reached = [estimate(row.episodes, ",.0f"), estimate(row.seconds, ",.1f")]
    else:
        reached = [f"{row.reached} of {runs} reach it"] * 2
    return [
        row.configuration.name,
        f"{runs}: {', '.join(map(str, row.configuration.seeds))}",
        *(estimate(row.finals.get(metric), seeds=runs) for metric in FINALS),
        *reached,
    ]


def reference_row(reference: Reference) -> list[str]:
    """The cells of a reference under HEADER; what it has by definition has no interval."""
    seeds = len(reference.seeds)
    return [
        reference.name,
        f"{seeds}: {', '.join(map(str, reference.seeds))}",
        *(
            f"{KNOWN[metric]:g}"
            if metric in KNOWN
            else estimate(reference.finals.get(metric), seeds=seeds)
            for metric in FINALS
        ),
        ABSENT,
        ABSENT,
    ]


def estimate(value: Estimate | None, form: str = ".3f", seeds: int | None = None) -> str:
    """A number and its interval: "0.512 [0.480, 0.530]"; "-" where there is none.

    `seeds`: how many there are, said where fewer of them know the number.
    """
    if value is None:
        return ABSENT
    fewer = f" ({value.seeds} of {seeds} seeds)" if seeds and value.seeds < seeds else ""
    if value.low is None or value.high is None:
        return f"{value.value:{form}} (no interval){fewer}"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]{fewer}"


def _facts(
    configurations: Sequence[Configuration], runs: Sequence[PolicyRun], made: Sequence[Origin]
) -> list[tuple[str, str]]:
    """What a reader who was sent the page asks first."""
    sweeps = [str(origin.folder) for origin in made if origin.is_sweep]
    alone = len(made) - len(sweeps)
    of = [
        *sweeps[:MOST_COMMANDS],
        *([f"and {_counted(alone, 'single run')}"] if sweeps and alone else []),
    ]
    return [
        ("Written", when([time.time()])),
        (
            "Compared",
            f"{_counted(len(configurations), 'configuration')}, {_counted(len(runs), 'run')}",
        ),
        ("Runs finished", when(run.ended for run in runs)),
        *([("Sweep" if len(sweeps) == 1 else "Sweeps", ", ".join(of))] if sweeps else []),
        *_one_for_all(runs, {"Commit": "commit", "PyTorch": "versions/torch"}),
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _one_for_all(runs: Sequence[PolicyRun], names: dict[str, str]) -> list[tuple[str, str]]:
    """What all runs agree in; where they do not, there is a warning."""
    values = {name: {run.summary.get(key) for run in runs} for name, key in names.items()}
    return [
        (name, str(found.pop()))
        for name, found in values.items()
        if len(found) == 1 and found != {None}
    ]


def _how_to_read(measures: Measures) -> str:
    if measures.threshold is None:
        threshold = "There is no threshold: no configuration is known to score above its reference."
    else:
        threshold = (
            f"The threshold is a val/score of {measures.threshold:.3f}: half-way from the mean"
            " score of the references to the best configuration's mean final score. It is reached"
            " at the first evaluation at or above it; seconds are those of iterations, without"
            " evaluations and stages. There is a mean only where every seed reaches it."
        )
    return (
        "Runs that differ in nothing but the seed are one configuration; the highest mean score is"
        " first. A reference is what its policies were before training: by definition without KL"
        " and even with itself; its score, gold and length are of its own responses."
        " Means over seeds with 95% bootstrap intervals of the mean, percentiles over all resamples"
        f" of the seeds or {RESAMPLES:,} drawn ones; one seed has no interval. With fewer than"
        " about 10 seeds such intervals are too short (docs/comparing.md says by how much)."
        f" {threshold}"
    )


def _pictures(configurations: Sequence[Configuration], folder: Path) -> list[Block]:
    few = ""
    if len(configurations) > DRAWN:
        few = f" Only the {DRAWN} configurations of the highest final score are drawn."
    curves = _picture(folder / CURVES_PNG, draw_curves, configurations)
    frontier = _picture(folder / FRONTIER_PNG, draw_frontier, configurations)
    blocks: list[Block] = [
        Heading("Learning curves"),
        Text(
            "Mean over seeds; the band is the 95% bootstrap interval of the mean, and one seed has"
            " none. What is measured on held-out prompts begins at 0 episodes with the reference,"
            f" as every policy does. Dashed: the reference, where it is one for all runs.{few}"
        ),
        curves or Text("They could not be drawn."),
    ]
    if frontier:
        blocks += [
            Heading("Score against KL"),
            Text(
                "Every evaluation of a configuration, mean over seeds, joined in the order of"
                " training: from the reference, at KL 0, to the large point. At equal KL the"
                " higher curve is better. Gold that falls where the score still rises is"
                f" over-optimisation.{few}"
            ),
            frontier,
        ]
    return blocks


def _picture(
    path: Path, draw: Callable[..., object], configurations: Sequence[Configuration]
) -> Picture | None:
    """The picture, and the same for narrow screens; None if it could not be drawn."""
    if not drawn(path, partial(draw, configurations)):
        return None
    narrow = path.with_stem(f"{path.stem}_narrow")
    fits = drawn(narrow, partial(draw, configurations, layout=NARROW))
    return Picture(path, PICTURES[path.name], narrow if fits else None)


def _pairs(pairs: Sequence[Pair]) -> list[Block]:
    if not pairs:
        return []
    blocks: list[Block] = [
        Heading("Differences between configurations"),
        Note(
            "How to read these tables",
            "The difference of the means of final values, and P(A > B): how often a random seed of"
            " A ends above a random seed of B, ties counting half. Intervals as above, seeds of A"
            " and B resampled independently. A result is not decided where the interval contains"
            " 0, or 1/2; so few seeds may be wholly apart by chance, and where that is more than"
            " 5% probable, it is said. No correction is made for the number of comparisons, and A"
            f" is the one that looks better. With more than {ALL_PAIRS} configurations the best is"
            " held against each other one.",
        ),
    ]
    for metric in (SCORE, GOLD):
        rows = [_pair_row(pair) for pair in pairs if pair.metric == metric]
        if rows:
            header = ("A", "B", f"{metric}, A - B", "", "P(A > B)", "")
            blocks += [Grid(header, rows)]
    return blocks


def _pair_row(pair: Pair) -> list[str]:
    return [
        pair.first,
        pair.second,
        estimate(pair.difference),
        _decided(pair.difference, 0, pair.by_chance),
        estimate(pair.improvement),
        _decided(pair.improvement, 0.5, pair.by_chance),
    ]


def _decided(value: Estimate, nothing: float, by_chance: float) -> str:
    """In words; what so few seeds would show one time in twenty without a difference is said."""
    if not value.excludes(nothing):
        return "not decided"
    higher = f"{'A' if value.value > nothing else 'B'} is higher"
    if by_chance > 1 - LEVEL:
        return f"{higher}; too few seeds, by chance {by_chance:.0%}"
    return higher


def _options(configurations: Sequence[Configuration]) -> list[Block]:
    configs = [configuration.config for configuration in configurations]
    keys = differing_keys(configs)
    if not keys:
        return []
    cells = [[shown(c[key]) if key in c else ABSENT for c in configs] for key in keys]
    names = [c.name for c in configurations]
    if len(names) <= MOST_COLUMNS:
        table = Grid(("option", *names), [[k, *row] for k, row in zip(keys, cells, strict=True)])
    else:
        across = zip(names, zip(*cells, strict=True), strict=True)
        table = Grid(("configuration", *keys), [[name, *row] for name, row in across])
    return [
        Heading("Options that differ"),
        Text(f"All others are equal; {ABSENT} is an option that a configuration does not have."),
        table,
    ]


def _left_out(left_out: Sequence[LeftOut]) -> list[Block]:
    if not left_out:
        return []
    rows = [(str(item.folder), item.reason) for item in left_out[:MOST_LEFT_OUT]]
    if len(left_out) > MOST_LEFT_OUT:
        rows.append((f"and {len(left_out) - MOST_LEFT_OUT} more", ""))
    return [Heading("Left out"), Grid(("folder", "why"), rows)]


def _commands(made: Sequence[Origin], command: str | None) -> list[Block]:
    """What was typed for the runs and for the comparison, as far as that is known."""
    known = [origin.command for origin in made if origin.command]
    lines = [*dict.fromkeys(known[:MOST_COMMANDS]), *([command] if command else [])]
    if not lines:
        return []
    about = "By which the runs and this comparison were made."
    if (more := len(known) - MOST_COMMANDS) > 0:
        about += f" {more} more are in their runs' folders (.hydra/overrides.yaml)."
    return [Heading("Commands"), Text(about), Commands(lines)]
