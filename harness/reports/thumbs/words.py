"""What is said of a reward's scores and thumbs in words and tables, as Markdown."""

from collections.abc import Mapping, Sequence
from math import isnan

from datamodules.records import Thumb
from harness.reports.markdown import quoted
from lightning_modules.metrics.intervals import Z_95
from lightning_modules.metrics.preferences import mean_interval
from lightning_modules.metrics.thumbs import JudgedThumbs, auc_parts, variance_of_sum

WORST = 5
FEW = 20  # with fewer thumbs nothing is said in words
ORDER = "how often a liked response scores above one that was not"
NO_BIAS = (
    "This reward was not trained on thumbs, so it says no probability of one: its order alone is"
    " judged."
)


def headline(rows: JudgedThumbs, numbers: Mapping[str, float]) -> str:
    """The table that comes first: a number a line, and how to read it."""
    prompts, up = len(rows.cluster.unique()), int(rows.liked.sum())
    lines = [
        ("thumbs", len(rows.liked), f"held out, {up} up, on {prompts} prompts"),
        ("AUC", _n(numbers["auc"]), _interval(numbers, "auc", ORDER)),
        ("AUC within prompts", _n(numbers["auc_within"]), "the same of responses to one prompt"),
        ("AUC of length", _n(numbers["auc_longer"]), "what counting characters gets"),
    ]
    if rows.bias is not None:
        accuracy = _interval(numbers, "accuracy", "how often the likelier thumb was given")
        lines += [
            ("accuracy", _n(numbers["accuracy"]), accuracy),
            ("majority", _n(numbers["majority"]), "accuracy of always saying the commoner one"),
            ("loss", _n(numbers["loss"]), "-log of the probability given to what happened"),
            ("Brier score", _n(numbers["brier"]), "0 is perfect"),
            ("ECE", _n(numbers["ece"]), "how far predicted probabilities are off, on average"),
            ("bias", _n(numbers["bias"]), "the score at which a thumb is as likely up as down"),
        ]
    if "bayes_accuracy" in numbers:
        told = "the most accuracy that any model can reach, as thumbs are partly chance"
        lines.append(("ceiling", _n(numbers["bayes_accuracy"]), told))
    head = ["| | value | how to read it |", "|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(map(str, line))} |" for line in lines)])


def _interval(numbers: Mapping[str, float], name: str, told: str) -> str:
    low, high = numbers[f"{name}_ci_low"], numbers[f"{name}_ci_high"]
    return f"{told}; 95% interval {_n(low)} to {_n(high)}, over prompts"


def verdict(rows: JudgedThumbs, numbers: Mapping[str, float]) -> str:
    """Two or three sentences; what an interval does not exclude is not claimed."""
    if len(rows.liked) < FEW:
        return f"**Verdict.** {len(rows.liked)} thumbs are too few to say anything."
    if isnan(numbers["auc"]):
        return "**Verdict.** All thumbs are of one kind, so nothing can be told apart."
    sentences = [_order(rows, numbers)]
    sentences += [NO_BIAS] if rows.bias is None else [_skill(rows, numbers), _calibration(rows)]
    return f"**Verdict.** {' '.join(sentences)}"


def _order(rows: JudgedThumbs, numbers: Mapping[str, float]) -> str:
    found = (
        f"It puts a liked response above one that was not in {_percent(numbers['auc'])} of cases"
    )
    if numbers["auc_ci_high"] < 0.5:
        return f"{found}, fewer than a coin: do the labels point the right way?"
    if numbers["auc_ci_low"] <= 0.5:
        return f"{found}, which is not shown to be better than a coin."
    # If the shorter response is liked more often, that is what counting characters can do.
    sign = 1 if numbers["auc_longer"] >= 0.5 else -1
    length = sign * rows.length
    rival = numbers["auc_longer"] if sign > 0 else 1 - numbers["auc_longer"]
    parts = auc_parts(rows.score, rows.liked) - auc_parts(length, rows.liked)
    half = Z_95 * variance_of_sum(parts, rows.cluster) ** 0.5
    told = f"taking the {'longer' if sign > 0 else 'shorter'} response ({_percent(rival)})"
    gap = numbers["auc"] - rival
    if gap > half:
        return f"{found}, more than {told}."
    if gap < -half:
        return f"{found}, fewer than {told}."
    return f"{found}, which is not shown to be better than {told}."


def _skill(rows: JudgedThumbs, numbers: Mapping[str, float]) -> str:
    commoner = rows.liked if numbers["up"] >= 0.5 else ~rows.liked
    low, high = mean_interval(rows.right - commoner.double(), rows.cluster)
    which = "up" if numbers["up"] >= 0.5 else "down"
    found = f"It foresees {_percent(numbers['accuracy'])} of thumbs"
    rival = f'always saying "{which}" ({_percent(numbers["majority"])})'
    if low > 0:
        return f"{found}, more than {rival}."
    if high < 0:
        return f"{found}, fewer than {rival}."
    return f"{found}, which is not shown to be better than {rival}."


def _calibration(rows: JudgedThumbs) -> str:
    low, high = mean_interval(rows.predicted - rows.liked.double(), rows.cluster)
    claim = f"it expects {_percent(float(rows.predicted.mean()))} up"
    seen = _percent(float(rows.liked.double().mean()))
    if low > 0:
        return f"It expects too many thumbs up: {claim}, and {seen} were."
    if high < 0:
        return f"It expects too few thumbs up: {claim}, and {seen} were."
    return f"It expects as many thumbs up as there are, as far as these show: {claim}, {seen} were."


def mistakes(thumbs: Sequence[Thumb], rows: JudgedThumbs) -> str:
    """The thumbs up with the lowest scores and those down with the highest, the worst first."""
    parts = []
    for liked, what in ((True, "Liked, with the lowest scores"), (False, "Not liked, highest")):
        here = (rows.liked == liked).nonzero().flatten()
        order = rows.score[here].argsort(descending=not liked, stable=True)[:WORST]
        if len(order):
            parts.append(f"### {what}")
        for i in here[order].tolist():
            parts.append(f"Score {rows.score[i]:.3f}, prompt\n\n{quoted(thumbs[i].prompt.text)}")
            parts.append(f"Response\n\n{quoted(thumbs[i].response)}")
    return "\n\n".join(parts)


def _n(value: float) -> str:
    return "unknown" if isnan(value) else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
