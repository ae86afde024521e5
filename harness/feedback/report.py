"""The summary of labels, for a person."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD

from harness.feedback.summary import Annotator, Share, Summary
from harness.reports.word_table import WordTable
from lightning_modules.metrics.intervals import wilson_interval

NONE = "-"


def summary_lines(summary: Summary) -> Iterator[str]:
    """What all votes say: how many, how fast, how far people agree, what is due to the order."""
    skipped = f", {summary.skipped} skipped" if summary.skipped else ""
    yield (
        f"{_counted(summary.labels, 'label')} of {_counted(summary.items, 'item')} by"
        f" {_counted(len(summary.annotators), 'annotator')}{skipped};"
        f" {_seconds(summary.seconds)} a label (median)"
    )
    if summary.agreement is None:
        yield "agreement: no item has labels of two annotators (overlap=2 asks for them)"
    else:
        alpha = "not defined, all labels are the same"
        if summary.alpha is not None:
            alpha = f"{summary.alpha:.3f}"
        yield (
            f"agreement: {summary.agreement:.1%} of the labels of"
            f" {_counted(summary.twice, 'item')} with several; Krippendorff's alpha {alpha}"
        )
    if summary.first_shown:
        yield f"the answer in the first place won {_share(summary.first_shown)} (no bias: 50%)"
    names = list(summary.wins)
    for name in names[:1] if len(names) == 2 else names:  # of two the other has the rest
        against = f" than {names[1]}" if len(names) == 2 else ""
        yield f"{name} was better{against} in {_share(summary.wins[name])}, ties counted as half"


def summary_table(summary: Summary) -> WordTable:
    """A row for each annotator."""
    table = WordTable(title="annotators", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("name", "labels", "skipped", "seconds", "agrees", "first place won"):
        table.add_column(name)
    for annotator in summary.annotators:
        table.add_row(*_cells(annotator))
    return table


def _cells(annotator: Annotator) -> tuple[str, ...]:
    agrees = NONE if annotator.agreement is None else f"{annotator.agreement:.1%}"
    first = _share(annotator.first_shown) if annotator.first_shown else NONE
    seconds = NONE if annotator.seconds is None else f"{annotator.seconds:.1f}"
    return annotator.name, str(annotator.labels), str(annotator.skipped), seconds, agrees, first


def _share(share: Share) -> str:
    low, high = wilson_interval(share.value, share.count)
    return f"{share.value:.1%} [{low:.1%}, {high:.1%}] of {share.count}"


def _seconds(seconds: float | None) -> str:
    return "unknown seconds" if seconds is None else f"{seconds:.1f} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
