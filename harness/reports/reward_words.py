"""What a reward model's report says in words and tables, as Markdown."""

from collections.abc import Mapping, Sequence

from datamodules.records import Preference
from harness.reports.markdown import one_line, quoted
from lightning_modules.metrics.preferences import TEMPERATURES, Bucket, Judged, mean_interval

WORST = 10
FEW = 20  # with fewer pairs nothing is said in words
# From here on the order of two responses is that of their lengths.
LENGTH_ALONE = 0.8
SAME_ORDER = 0.95
NAMES = {
    "loss": "loss",
    "brier": "Brier score",
    "ece": "ECE",
    "temperature": "temperature",
    "ece_tempered": "ECE, tempered",
    "score_length_correlation": "score and length",
    "score_length_correlation_within": "score and length, within pairs",
    "disagreement/right": "disagreement, right",
    "disagreement/wrong": "disagreement, wrong",
}
READINGS = {
    "loss": "-log of the probability given to what happened; 0.693 knows nothing",
    "brier": "0.25 knows nothing, 0 is perfect",
    "ece": "how far predicted probabilities are off, on average",
    "ece_tempered": "the same after dividing scores by a temperature fitted on other prompts",
    "score_length_correlation": "correlation over all responses",
    "score_length_correlation_within": "correlation of the differences between two responses",
    "disagreement/right": "spread of the ensemble on pairs in the right order",
    "disagreement/wrong": "and in the wrong one; should be larger",
}


def headline(rows: Judged, numbers: Mapping[str, float]) -> str:
    """The table that comes first: a number a line, and how to read it."""
    prompts = len(rows.cluster.unique())
    interval = f"{_n(numbers['accuracy_ci_low'])} to {_n(numbers['accuracy_ci_high'])}"
    lines = [
        _row("", "value", "how to read it"),
        "|---|---|---|",
        _row("pairs", len(rows.chosen), f"held out, on {prompts} prompts"),
        _row("accuracy", _n(numbers["accuracy"]), f"95% interval {interval}, over prompts"),
        _row("longer wins", _n(numbers["accuracy_longer"]), "accuracy of counting characters"),
    ]
    if "bayes_accuracy" in numbers:
        ceiling = "the most that any model can reach, as preferences are partly chance"
        lines.append(_row("ceiling", _n(numbers["bayes_accuracy"]), ceiling))
    read = READINGS | {"temperature": _temperature(numbers["temperature"])}
    lines += [_row(NAMES[key], _n(numbers[key]), read[key]) for key in NAMES if key in numbers]
    return "\n".join(lines)


def verdict(rows: Judged, numbers: Mapping[str, float]) -> str:
    """Two or three sentences; what an interval does not exclude is not claimed."""
    if len(rows.chosen) < FEW:
        return f"**Verdict.** {len(rows.chosen)} pairs are too few to say anything."
    sentences = (_skill(rows, numbers), _calibration(rows), _length(rows, numbers))
    return f"**Verdict.** {' '.join(sentences)}"


def _skill(rows: Judged, numbers: Mapping[str, float]) -> str:
    low, high = numbers["accuracy_ci_low"], numbers["accuracy_ci_high"]
    accuracy = f"It puts {_percent(numbers['accuracy'])} of pairs in the right order"
    if high < 0.5:
        return f"{accuracy}, fewer than a coin: do the labels point the right way?"
    if low <= 0.5:
        return f"{accuracy}, which is not shown to be better than a coin."
    # If the labels prefer the shorter response, that is what counting characters can do.
    name, baseline = "longer", rows.longer
    if numbers["accuracy_longer"] < 0.5:
        name, baseline = "shorter", 1 - rows.longer
    rival = f"always taking the {name} response ({_percent(float(baseline.mean()))})"
    low, high = mean_interval(rows.right - baseline, rows.cluster)
    if low > 0:
        return f"{accuracy}, more than {rival}."
    if high < 0:
        return f"{accuracy}, fewer than {rival}."
    return f"{accuracy}, which is not shown to be better than {rival}."


def _calibration(rows: Judged) -> str:
    low, high = mean_interval(rows.confidence - rows.right, rows.cluster)
    claim = f"it is {_percent(float(rows.confidence.mean()))} sure on average"
    if low > 0:
        return f"It is over-confident: {claim}, and right less often."
    if high < 0:
        return f"It is under-confident: {claim}, and right more often."
    return f"It is as confident as it should be, as far as these pairs show: {claim}."


def _length(rows: Judged, numbers: Mapping[str, float]) -> str:
    """Its own preference for length, beside that of the labels."""
    apart = rows.length_difference != 0
    if not apart.any():
        return "All pairs have responses of equal length, so nothing is known of its taste for it."
    # 1 where the model prefers the longer response
    model = 0.5 + 0.5 * (rows.margins * rows.length_difference).sign()[apart]
    labels, cluster = rows.longer[apart], rows.cluster[apart]
    taken, preferred = float(model.mean()), float(labels.mean())
    shares = f"it prefers the longer response in {_percent(taken)} of pairs, the labels in"
    shares += f" {_percent(preferred)}"
    within = numbers["score_length_correlation_within"]
    if abs(within) >= LENGTH_ALONE or not 1 - SAME_ORDER < taken < SAME_ORDER:
        return f"Its order is nearly that of length alone: {shares} (correlation {_n(within)})."
    # A model that errs at random is on the labels' side of a half, but less so than they are.
    most, least = (labels, 0.5) if preferred > 0.5 else (0.5, labels)
    if mean_interval(model - most, cluster)[0] > 0:
        return f"It leans towards longer responses: {shares}."
    if mean_interval(model - least, cluster)[1] < 0:
        return f"It leans towards shorter responses: {shares}."
    return f"It does not lean on length more than the labels do, as far as is shown: {shares}."


def _temperature(value: float) -> str:
    low, high = TEMPERATURES
    if value < low * 1.001:
        return "at its bound: all pairs are in the right order, or scores hardly differ"
    if value > high * 0.999:
        return "at its bound: scores tell nothing of the preferences, or are enormous"
    return "what to divide scores by: above 1 they are over-confident, below 1 under-confident"


def bucket_table(buckets: Sequence[Bucket]) -> str:
    """A line a bucket."""
    lines = [_row("from, to", "pairs", "accuracy", "95% interval", "predicted"), "|---" * 5 + "|"]
    lines += [
        _row(
            bucket_name(b),
            b.pairs,
            _n(b.accuracy),
            f"{_n(b.ci_low)} to {_n(b.ci_high)}",
            _n(b.predicted),
        )
        for b in buckets
    ]
    return "\n".join(lines)


def mistakes(pairs: Sequence[Preference], rows: Judged) -> str:
    """The ten pairs with the largest negative margins, worst first."""
    heading = "## Worst mistakes"
    margins = rows.margins
    worst = [int(i) for i in margins.argsort(stable=True)[:WORST] if margins[i] < 0]
    if not worst:
        return f"{heading}\n\nNone: no pair is in the wrong order."
    parts = [heading, "The pairs that it is surest about and wrong. Long texts lose their middle."]
    for place, i in enumerate(worst, start=1):
        pair, score, other = pairs[i], rows.chosen[i], rows.rejected[i]
        parts += [
            f"### {place}. Pair {i + 1}, margin {margins[i]:.3f}",
            f"Prompt\n\n{quoted(pair.prompt.text)}",
            f"Labelled better, score {score:.3f}\n\n{quoted(pair.chosen)}",
            f"Labelled worse, score {other:.3f}\n\n{quoted(pair.rejected)}",
        ]
    return "\n\n".join(parts)


def left_out_table(left_out: Mapping[str, int]) -> str:
    """How many rows are not among the pairs, and why."""
    heading = "## Left out"
    if not any(left_out.values()):
        return f"{heading}\n\nNothing: every row of the data is among the pairs."
    rows = [_row(one_line(reason), count) for reason, count in left_out.items() if count]
    return "\n".join([f"{heading}\n", _row("why", "rows"), "|---|---|", *rows])


def bucket_name(bucket: Bucket) -> str:
    """Its bounds for people, or its only value."""
    if bucket.low == bucket.high:
        return f"{bucket.low:.4g}"
    return f"{bucket.low:.4g} to {bucket.high:.4g}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _n(value: float) -> str:
    return f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
