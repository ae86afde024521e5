"""The report on a reward model: report.md, its pictures, and the numbers for summary.json."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datamodules.records import Preference
from harness.disk.files import write_text, writing
from harness.pictures.drawing import drawn
from harness.reports.markdown import one_line
from harness.reports.reward_words import (
    bucket_name,
    bucket_table,
    headline,
    left_out_table,
    mistakes,
    verdict,
)
from lightning_modules.metrics.preferences import Bucket, Judged, accuracy_by, held_out_metrics

PICTURES = "report"
BUCKETS = 5
LENGTH_BUCKETS = 3  # on either side of 0
CALIBRATION_BINS = 15  # as in the expected calibration error
AXES = {
    "margin": "predicted margin |r⁺ - r⁻|, in units of scores",
    "length": "length of the preferred response minus the other's, in characters",
    "strength": "strength of the preference, in units of the data",
}
CAPTIONS = {
    "margin": (
        "By predicted margin",
        "Buckets of |r⁺ - r⁻|. A model that knows what it knows is right more often further down.",
    ),
    "length": (
        "By length",
        "Buckets of characters of the preferred response minus the other. A model that counts"
        " characters is right where the preferred response is longer and wrong where it is shorter."
        " Equal lengths are in the bucket that begins with 0.",
    ),
    "strength": (
        "By strength of the preference",
        "Buckets of how much better the preferred response was said to be, in units of the data.",
    ),
}


def judged(pairs: Sequence[Preference], chosen: Tensor, rejected: Tensor) -> Judged:
    """N pairs and their scores (N,), with what the pairs say of length, prompt and truth.

    ValueError if the numbers of pairs and scores differ, or there are none.
    """
    if not len(pairs) == len(chosen) == len(rejected) or not pairs:
        raise ValueError(f"{len(pairs)} pairs, {len(chosen)} and {len(rejected)} scores")
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt for p in pairs))}
    return Judged(
        chosen=chosen.detach().cpu().double(),
        rejected=rejected.detach().cpu().double(),
        chosen_length=_column(len(p.chosen) for p in pairs),
        rejected_length=_column(len(p.rejected) for p in pairs),
        cluster=torch.tensor([numbers[p.prompt] for p in pairs]),
        probability=_column(p.probability for p in pairs),
        strength=_column(p.strength for p in pairs),
    )


def write_report(
    folder: Path,
    *,
    title: str,
    pairs: Sequence[Preference],
    chosen: Tensor,
    rejected: Tensor,
    disagreement: tuple[Tensor, Tensor] | None = None,
    left_out: Mapping[str, int],
    note: str = "",
) -> dict[str, float]:
    """Write folder/report.md and folder/report/*.png; return the numbers in them, flat.

    `disagreement`: standard deviations over an ensemble's heads (N,), of chosen and of rejected.
    `left_out`: rows that are not among the pairs, by reason. Besides held_out_metrics there are
    `by_margin|by_length|by_strength/<bucket>/low|high|accuracy|pairs`, buckets being counted from 1
    upwards, and `disagreement/right|wrong`.
    """
    rows = judged(pairs, chosen, rejected)
    numbers = held_out_metrics(rows)
    if disagreement:
        numbers |= _disagreement(rows, *disagreement)
    tables = _tables(rows)
    for name, buckets in tables.items():
        for i, b in enumerate(buckets, start=1):
            of_bucket = {"low": b.low, "high": b.high, "accuracy": b.accuracy, "pairs": b.pairs}
            numbers |= {f"by_{name}/{i}/{key}": value for key, value in of_bucket.items()}
    bins = torch.linspace(0.5, 1, CALIBRATION_BINS + 1, dtype=torch.float64)
    reliability = accuracy_by(rows, rows.confidence, bins)
    with writing(folder / PICTURES):
        _draw(folder / PICTURES, rows, reliability, tables)
    parts = [
        f"# {one_line(title)}",
        headline(rows, numbers),
        verdict(rows, numbers),
        "## Calibration\n\nHow often it is right, by how sure it is, and how many pairs there are.",
        _picture(folder, "reliability", "share of right pairs over predicted probability"),
        *(_section(folder, name, buckets) for name, buckets in tables.items()),
        "## Scores\n\nOf the preferred responses and of the others.",
        _picture(folder, "scores", "histograms of the scores of chosen and rejected responses"),
        mistakes(pairs, rows),
        left_out_table(left_out),
        note,
    ]
    write_text(folder / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    return numbers


def quantile_edges(values: Tensor, buckets: int) -> Tensor:
    """Edges of at most `buckets` buckets of `values` (N,) with about equal shares.

    Few different values are a bucket each.
    """
    different = values.unique()
    if len(different) <= buckets:
        return torch.cat([different, different[-1:]])
    marks = torch.linspace(0, 1, buckets + 1, dtype=values.dtype)
    edges = values.quantile(marks)
    top = edges[-1:] if edges[-2] == edges[-1] else edges[:0]
    return torch.cat([edges.unique(), top])


def length_edges(differences: Tensor) -> Tensor:
    """Edges in characters, 0 among them, so that no bucket mixes longer with shorter."""
    shorter, longer = differences[differences < 0], differences[differences > 0]
    marks = torch.linspace(0, 1, LENGTH_BUCKETS + 1, dtype=differences.dtype)
    edges = torch.zeros(1, dtype=differences.dtype)
    if len(shorter):
        edges = torch.cat([shorter.quantile(marks)[:-1].round(), edges])
    if len(longer):
        edges = torch.cat([edges, longer.quantile(marks)[1:].round()])
    edges = edges.unique()
    return edges if len(edges) > 1 else torch.cat([edges, edges])


def _tables(rows: Judged) -> dict[str, list[Bucket]]:
    differences = rows.length_difference
    tables = {
        "margin": _by_quantiles(rows, rows.margins.abs()),
        "length": accuracy_by(rows, differences, length_edges(differences)),
    }
    if not rows.strength.isnan().all():
        tables["strength"] = _by_quantiles(rows, rows.strength)
    return tables


def _by_quantiles(rows: Judged, values: Tensor) -> list[Bucket]:
    """Buckets of the values that are not NaN; a bucket of one value is named by it."""
    known = values[~values.isnan()]
    buckets = accuracy_by(rows, values, quantile_edges(known, BUCKETS))
    if len(known.unique()) <= BUCKETS:
        buckets = [b._replace(high=b.low) for b in buckets]
    return buckets


def _disagreement(rows: Judged, chosen: Tensor, rejected: Tensor) -> dict[str, float]:
    """Mean over the pairs in the right order, and over the others; NaN where there are none."""
    spread = (chosen.detach().cpu().double() + rejected.detach().cpu().double()) / 2
    right = rows.margins > 0
    return {
        "disagreement/right": float(spread[right].mean()),
        "disagreement/wrong": float(spread[~right].mean()),
    }


def _draw(
    folder: Path, rows: Judged, reliability: list[Bucket], tables: Mapping[str, list[Bucket]]
) -> None:
    from harness.pictures.reward_model import draw_accuracy, draw_reliability, draw_scores

    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "reliability": partial(draw_reliability, "Calibration", reliability),
        "scores": partial(draw_scores, "Scores of held-out responses", rows.chosen, rows.rejected),
    }
    for name, buckets in tables.items():
        title, names = f"Accuracy {CAPTIONS[name][0].lower()}", list(map(bucket_name, buckets))
        pictures[name] = partial(draw_accuracy, title, buckets, names, AXES[name])
    for name, draw in pictures.items():
        drawn(folder / f"{name}.png", draw)


def _section(folder: Path, name: str, buckets: list[Bucket]) -> str:
    heading, caption = CAPTIONS[name]
    picture = _picture(folder, name, f"accuracy {heading.lower()}")
    return f"## {heading}\n\n{caption}\n\n{bucket_table(buckets)}\n\n{picture}"


def _picture(folder: Path, name: str, alternative: str) -> str:
    place = f"{PICTURES}/{name}.png"
    return f"![{alternative}]({place})" if (folder / place).is_file() else "(It was not drawn.)"


def _column(values: Iterable[float | None]) -> Tensor:
    """(N,) in float64, NaN for None."""
    return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)
