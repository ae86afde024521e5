"""The report on a judge: report.md, and what of it is on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.disk.files import write_text
from harness.judging.both_orders import UNSCORED, Judged
from harness.judging.numbers import LABELS_LONGER
from harness.judging.pairs import Asked
from harness.reports.markdown import one_line, quoted
from harness.reports.reward_words import left_out_table
from harness.reports.word_table import WordTable
from lightning_modules.judges.verdict import Counts

FEW = 20  # with fewer pairs nothing is said in words
EXAMPLES = 5
# Names of numbers, what people call them, and how to read them.
READINGS = {
    "agreement": ("agreement with the labels", "of the pairs with a winner"),
    "kappa": ("Cohen's kappa", "the same, 0 by chance and 1 at best"),
    "agreement_ties_half": ("  ties half right", "of all pairs, as a reward model's accuracy"),
    "ties": ("ties", "the orders disagree, or neither has a winner"),
    "orders_disagree": ("orders disagree", "0 for a judge that does not mind the order"),
    "read_first": ("what is read first", "of the verdicts for it; 0.5 without position bias"),
    "longer": ("the longer one wins", "of the pairs with a winner"),
    "unscored": ("unscored", "pairs without a verdict in one order"),
}
COUNTS = {
    "asked": "verdicts asked for",
    "from_cache": "  of them from the cache",
    "requests": "requests sent",
    "retried": "  of them again, after a failure",
    "tokens": "tokens, of prompts and answers",
    "failed": "verdicts missing",
    "malformed": "answers that held no verdict",
}
Numbers = Mapping[str, float]


def write_report(
    folder: Path,
    *,
    title: str,
    asked: Asked,
    judged: Sequence[Judged],
    numbers: Numbers,
    counts: Counts,
    left_out: Mapping[str, int],
) -> None:
    """Write folder/report.md; `left_out` counts what was not asked, by the reason."""
    prompts = len({each.pair.prompt for each in judged})
    said = f"{len(judged):,} pairs on {prompts:,} prompts, each read in both orders."
    rows = ["| | value | 95% interval | how to read it |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(row)} |" for row in _rows(numbers)]
    took = ["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in cost_rows(counts))]
    parts = [
        f"# {one_line(title)}",
        said,
        "\n".join(rows),
        f"**Verdict.** {' '.join(sentences(numbers, judged))}",
        _policies_table(numbers),
        "## What it took\n\n" + "\n".join(took),
        *_examples(asked, judged),
        left_out_table(left_out),
    ]
    write_text(folder / "report.md", "\n\n".join(part for part in parts if part) + "\n")


def summary_table(numbers: Numbers, counts: Counts) -> WordTable:
    """The numbers of a report for a terminal."""
    table = WordTable(title="of the pairs, read in both orders")
    for name in ("", "value", "95% interval"):
        table.add_column(name)
    for name, value, interval, _ in _rows(numbers):
        table.add_row(name, value, interval)
    for one, other, plain, controlled in _rates(numbers):
        table.add_row(f"{one} wins against {other}", *plain)
        table.add_row("  at equal lengths", *controlled)
    table.add_section()
    for name, value in cost_rows(counts):
        table.add_row(name, value, "")
    return table


def cost_rows(counts: Counts) -> list[tuple[str, str]]:
    """What the verdicts took, without what did not happen."""
    found = counts.as_dict()
    shown = [name for name in COUNTS if found.get(name) or name == "asked"]
    return [(COUNTS[name], f"{found[name]:,}") for name in shown]


def _rows(numbers: Numbers) -> Iterator[tuple[str, str, str, str]]:
    for key, (name, reading) in READINGS.items():
        if key in numbers:
            told = reading
            if key == "longer" and LABELS_LONGER in numbers:
                told += f"; of the labels {numbers[LABELS_LONGER]:.3f}"
            yield name, _n(numbers[key]), _interval(numbers, key), told


def _interval(numbers: Numbers, key: str) -> str:
    if f"{key}_ci_low" not in numbers or numbers[key] != numbers[key]:
        return ""
    return f"{numbers[f'{key}_ci_low']:.3f} to {numbers[f'{key}_ci_high']:.3f}"


def _n(value: float) -> str:
    return "none" if value != value else f"{value:.3f}"


def _rates(numbers: Numbers) -> Iterator[tuple[str, str, tuple[str, str], tuple[str, str]]]:
    """Each two policies, the win rate of the first one with its interval, and the same at equal
    lengths.
    """
    for key in numbers:
        if key.endswith("/win_rate"):
            place = key.removesuffix("win_rate")
            one, _, other = place.removesuffix("/").partition("/against/")
            keys = (f"{place}win_rate", f"{place}lc_win_rate")
            yield one, other, *((_n(numbers[k]), _interval(numbers, k)) for k in keys)


def _policies_table(numbers: Numbers) -> str:
    rows = [
        f"| {one_line(one)} | {one_line(other)} | {plain[0]} [{plain[1]}] |"
        f" {controlled[0]} [{controlled[1]}] |"
        for one, other, plain, controlled in _rates(numbers)
    ]
    if not rows:
        return ""
    head = ["| policy | against | win rate | at equal lengths |", "|---|---|---|---|"]
    return "## Policies\n\nTies count half.\n\n" + "\n".join(head + rows)


def sentences(numbers: Numbers, judged: Sequence[Judged]) -> list[str]:
    """What the numbers come to; what an interval does not exclude is not claimed."""
    scored = [each for each in judged if each.winner != UNSCORED]
    if len(scored) < FEW:
        return [f"{len(scored)} pairs with verdicts are too few to say anything."]
    said = [_agreement(numbers)] if "agreement" in numbers else []
    return [*said, _position(numbers), _ties(numbers)]


def _agreement(numbers: Numbers) -> str:
    agreed = numbers["agreement"]
    if agreed != agreed:
        return "It has no winner in any pair."
    claim = f"Where it has a winner, it agrees with {agreed:.0%} of the labels"
    low, high = numbers["agreement_ci_low"], numbers["agreement_ci_high"]
    if high < 0.5:
        return f"{claim}, fewer than a coin: do the labels point the right way?"
    if low <= 0.5:
        return f"{claim}, which is not shown to be better than a coin."
    longer = numbers.get(LABELS_LONGER, 0.5)
    rule = f"always taking the {'longer' if longer >= 0.5 else 'shorter'} response"
    share = max(longer, 1 - longer)
    if low > share:
        return f"{claim}, more than {rule} would ({share:.0%})."
    return f"{claim}, which is not shown to be better than {rule} ({share:.0%})."


def _position(numbers: Numbers) -> str:
    claim = f"{numbers['read_first']:.0%} of the verdicts are for what is read first"
    if numbers["read_first_ci_low"] > 0.5:
        return f"It leans towards the response that is read first: {claim}."
    if numbers["read_first_ci_high"] < 0.5:
        return f"It leans towards the response that is read last: {claim}."
    return f"No leaning to either place is shown: {claim}."


def _ties(numbers: Numbers) -> str:
    if numbers["ties"] <= 0.5:
        return f"{numbers['ties']:.0%} of the pairs are ties."
    return (
        f"{numbers['ties']:.0%} of the pairs are ties: half of what is asked says nothing; try"
        " another judge or another rubric."
    )


def _examples(asked: Asked, judged: Sequence[Judged]) -> Iterator[str]:
    """Pairs to look at: where it is surest against the labels, and most of two minds."""

    def strength(each: Judged) -> float:
        return each.read_first + each.read_second - 1

    against = sorted((j for j in judged if j.winner == "second"), key=strength)
    if asked.labelled and against:
        yield "## Against the labels\n\nWhere it is surest. Long texts lose their middle."
        yield from _shown(against, ("labelled better", "labelled worse, and its choice"))
    tied = [j for j in judged if j.winner == "tie"]
    tied.sort(key=lambda each: -abs(each.read_first - each.read_second))
    if tied:
        yield "## Ties\n\nWhere the two orders disagree most."
        yield from _shown(tied, ("one response", "the other"))


def _shown(judged: Sequence[Judged], names: tuple[str, str]) -> Iterator[str]:
    for place, each in enumerate(judged[:EXAMPLES], start=1):
        read = f"{each.read_first:.2f} read first, {each.read_second:.2f} read second"
        texts = zip(names, (each.pair.first, each.pair.second), strict=True)
        shown = "\n\n".join(f"{name}\n\n{quoted(text)}" for name, text in texts)
        yield (
            f"### {place}. P({names[0]} is better): {read}\n\nprompt\n\n"
            f"{quoted(each.pair.prompt.text)}\n\n{shown}"
        )
