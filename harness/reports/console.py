"""What a person reads at the start and at the end of a run."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from harness.disk.contents import in_units, size_of
from harness.durations import duration
from harness.ranks import this_rank
from harness.reports.plain_console import NAME, USUAL, WHOLE, PlainConsole, line
from harness.reports.word_table import WordTable
from harness.runs.stages import Stage
from harness.tracking.wandb_account import sync_command
from harness.typed import from_here
from harness.wrapping import asked_columns

READABLE = 20  # columns of a text
WIN_RATES = {
    "win rate": "val/win_rate",
    "win rate by the judge": "val/judge_win_rate",
    "  at equal lengths": "val/judge_lc_win_rate",
}
OF_JUDGE = {
    "judge: ties": "val/judge_ties",
    "judge: what is read first wins": "val/judge_read_first",
    "judge: unscored": "val/judge_unscored",
}
# Something to look at, or lines, made when it is shown: by then the results are kept.
Drawing = Callable[[], RenderableType | list[str] | list[Text]]


def make_console(*, alone: bool = False, terse: bool = False) -> PlainConsole:
    """Standard output, wide enough for tables where it is no terminal, with a log of its own.

    One of several processes speaks; one that is `alone` does whatever a scheduler's variables say.
    What a `terse` one is given is in the log alone, but for what it has to `tell`.
    """
    width = asked_columns() or (None if sys.stdout.isatty() else USUAL)
    return PlainConsole(width=width, quiet=not alone and this_rank() > 0, terse=terse)


def samples_table(
    rows: list[dict[str, Any]], count: int = 8, names: tuple[str, str] = ("before", "after")
) -> WordTable:
    """Held-out prompts with the responses of two policies by their `names`, the one that the other
    is measured against first, and what each is worth.
    """
    table = WordTable(title=f"held-out prompts, {' and '.join(names)}", show_lines=True)
    told = {"score": "score", "gold": "gold", "verdict": "judge"}
    there = [key for key in told if any(row.get(key) is not None for row in rows)]
    worth = ", ".join(told[key] for key in there or ["score"])
    for name in ("prompt", names[0], worth, names[1], worth):
        table.add_column(name, min_width=None if name == worth else READABLE)
    count = min(count, len(rows))
    for row in (rows[i * len(rows) // count] for i in range(count)):
        texts = [_short(row[key]) for key in ("prompt", "reference_answer", "answer")]
        before, after = (_worth(row, prefix, worth) for prefix in ("reference_", ""))
        table.add_row(texts[0], texts[1], before, texts[2], after)
    return table


def _worth(row: dict[str, Any], prefix: str, shown: str) -> str:
    """What is said of a response: those of score, gold and judge that are shown."""
    score = row[f"{prefix}score"]
    parts = ["none" if score is None else f"{score:.2f}"] if "score" in shown else []
    if "gold" in shown:
        parts.append(f"{row[f'{prefix}gold']:.1f}")
    if "judge" in shown:
        words = {f"{prefix}answer": "wins", "tie": "tie", "unscored": "none"}
        parts.append(words.get(row["verdict"]["winner"], "loses"))
    return ", ".join(parts)


def _short(text: str, limit: int = 240) -> str:
    text = text.strip()
    return text if len(text) <= limit else text[:limit] + " ..."


def policy_summary(
    summary: dict[str, Any], names: tuple[str, str] = ("reference", "policy")
) -> WordTable:
    """What got better and what it cost, of two policies by their `names` as in `samples_table`."""
    table = WordTable(title="on held-out prompts")
    for name in ("", *names):
        table.add_column(name)
    if "val/score" in summary:
        table.add_row(
            "score",
            f"{summary['reference/score']:.3f} (std {summary['reference/score_std']:.3f})",
            f"{summary['val/score']:.3f}",
        )
    if summary.get("val/unscored"):
        table.add_row("  share without a score", "", f"{summary['val/unscored']:.3f}")
    if "val/gold" in summary:
        table.add_row("gold", f"{summary['reference/gold']:.3f}", f"{summary['val/gold']:.3f}")
    for name, key in WIN_RATES.items():
        if key in summary:
            low, high = summary[f"{key}_ci_low"], summary[f"{key}_ci_high"]
            table.add_row(name, "", f"{summary[key]:.3f}")
            table.add_row("  95% interval", "", f"{low:.3f} to {high:.3f}")
    if "val/kl" in summary:
        other = "the reference" if names[0] == "reference" else names[0]
        table.add_row(f"KL to {other}, nats a response", "0", f"{summary['val/kl']:.2f}")
    lengths = (f"{summary[name]:.1f}" for name in ("reference/length", "val/length"))
    table.add_row("length, tokens", *lengths)
    for name, key in OF_JUDGE.items():
        if key in summary:
            table.add_row(name, "", f"{summary[key]:.3f}")
    return table


def places(folder: Path) -> list[Text]:
    """Where everything of a run is."""
    files = {
        "model": ["model"],
        "critic": ["critic"],
        "metrics": ["metrics.csv", "summary.json"],
        "samples": ["samples.jsonl"],
        "pictures": ["curves.png", "overoptimisation.png"],
        "report": ["report.md"],
    }
    lines = []
    for name, names in files.items():
        if there := [n for n in names if (folder / n).exists()]:
            parts = [(from_here(folder / n), WHOLE) for n in there]
            between = [part for path in parts for part in (" ", path)]
            lines.append(line(f"{name:8} ", *between))
    kept = folder / "checkpoints"
    if (count := len(list(kept.glob("[!.]*.ckpt")))) > 1:
        several = f" ({count} checkpoints, {in_units(size_of(kept))})"
        lines.append(line("kept      ", (from_here(kept), WHOLE), several))
    sync = sync_command(folder)
    if sync:
        lines.append(line("W&B       offline; to upload it: ", (sync, WHOLE)))
    elif (folder / "wandb").exists():
        lines.append(line("W&B       ", (from_here(folder / "wandb"), WHOLE)))
    return lines


def say(console: Console, lines: Iterable[str | Text]) -> None:
    """Print lines, broken between words where the console ends."""
    for text in lines:
        console.print(text)


def warn(console: Console, lines: Iterable[str | Text]) -> None:
    """Lines that must not be missed."""
    for text in lines:
        told = line(text) if isinstance(text, str) else text
        console.print(Text.assemble("CAUTION: ", told), style="bold yellow")


def draw(console: Console, *drawings: Drawing) -> None:
    """Print what is only to be looked at; what cannot be drawn is one line, and ends nothing."""
    for drawing in drawings:
        try:
            drawn = drawing()
            if isinstance(drawn, list):
                say(console, drawn)
            else:
                console.print(drawn)
        except Exception as error:
            console.print(f"(not shown, as it could not be drawn: {error})")


def numbers_shown(numbers: Mapping[str, float]) -> list[str]:
    """The numbers whose names have two parts, a line each; others are in the summary alone."""
    shown = {name: value for name, value in numbers.items() if name.count("/") == 1}
    width = max(map(len, shown), default=0)
    return [f"  {name:{width}} {value:.4f}" for name, value in shown.items()]


def what_was_cut(counts: Mapping[str, int]) -> list[str]:
    """How many prompts and responses were longer than their limit of tokens."""
    longer = "{cut:,} of {all:,} {whats} are longer than data.max_{what}_tokens and were cut"
    return [
        longer.format(cut=cut, all=counts[what], whats=what, what=what[:-1])
        for what in ("prompts", "responses")
        if (cut := counts.get(f"{what} truncated"))
    ]


def stage_line(stage: Stage) -> Text:
    """What a person reads of a stage: trained or reused, from where, and how good it is."""
    how = "reused from" if stage.reused else f"trained in {duration(stage.seconds)}, kept in"
    numbers, s = "", stage.summary
    if "val/accuracy" in s:
        numbers = (
            f"\n  held-out accuracy {s['val/accuracy']:.3f}"
            f" [{s['val/accuracy_ci_low']:.3f}, {s['val/accuracy_ci_high']:.3f}];"
            f" the longer response is the preferred one in {s['val/accuracy_longer']:.3f}"
        )
        if "val/bayes_accuracy" in s:
            numbers += f"; the best possible is {s['val/bayes_accuracy']:.3f}"
    if "val/thumbs_auc" in s:
        numbers += (
            f"\n  held-out AUC of thumbs {s['val/thumbs_auc']:.3f}"
            f" [{s['val/thumbs_auc_ci_low']:.3f}, {s['val/thumbs_auc_ci_high']:.3f}],"
            f" of length alone {s['val/thumbs_auc_longer']:.3f};"
            f" accuracy {s['val/thumbs_accuracy']:.3f},"
            f" of always the commoner one {s['val/thumbs_majority']:.3f}"
        )
    for what, count in stage.summary.items():
        if what.startswith(("train ", "val ")) and count:
            numbers += f"\n  {count:,} {what}: left out"
    for what in ("prompts", "responses"):
        if cut := stage.summary.get(f"{what} truncated"):
            numbers += f"\n  {cut:,} of {stage.summary[what]:,} {what} cut to the limit of tokens"
    report = []
    if (stage.path / "report.md").is_file():
        report = ["\n  how good it is: ", (from_here(stage.path / "report.md"), WHOLE)]
    return line((stage.name, NAME), f": {how} ", (from_here(stage.path), WHOLE), numbers, *report)
