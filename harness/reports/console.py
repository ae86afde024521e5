"""What a person reads at the start and at the end of a run."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.ranks import this_rank
from harness.runs.stages import Stage
from harness.tracking.wandb_account import sync_command


def make_console() -> Console:
    """Standard output; wide enough for tables where it is no terminal. One of several processes
    speaks.
    """
    width = None if sys.stdout.isatty() else 110
    return Console(width=width, highlight=False, quiet=this_rank() > 0)


def samples_table(rows: list[dict[str, Any]], count: int = 8) -> Table:
    """Held-out prompts with the response before and after, and what each is worth."""
    has_gold = bool(rows) and "gold" in rows[0]
    table = Table(title="held-out prompts, before and after", show_lines=True)
    worth = "score, gold" if has_gold else "score"
    for name in ("prompt", "before", worth, "after", worth):
        table.add_column(name, overflow="fold")
    count = min(count, len(rows))
    for row in (rows[i * len(rows) // count] for i in range(count)):
        before, after = _score(row["reference_score"]), _score(row["score"])
        if has_gold:
            before += f", {row['reference_gold']:.1f}"
            after += f", {row['gold']:.1f}"
        texts = [_short(row[key]) for key in ("prompt", "reference_answer", "answer")]
        table.add_row(texts[0], texts[1], before, texts[2], after)
    return table


def _score(score: float | None) -> str:
    return "none" if score is None else f"{score:.2f}"


def _short(text: str, limit: int = 240) -> str:
    text = text.strip().replace("[", "\\[")
    return text if len(text) <= limit else text[:limit] + " ..."


def policy_summary(summary: dict[str, Any]) -> Table:
    """What got better and what it cost."""
    table = Table(title="on held-out prompts", show_header=True)
    for name in ("", "reference", "policy"):
        table.add_column(name)
    table.add_row(
        "score",
        f"{summary['reference/score']:.3f} (std {summary['reference/score_std']:.3f})",
        f"{summary['val/score']:.3f}",
    )
    if "val/gold" in summary:
        table.add_row("gold", f"{summary['reference/gold']:.3f}", f"{summary['val/gold']:.3f}")
    low, high = summary["val/win_rate_ci_low"], summary["val/win_rate_ci_high"]
    table.add_row(
        "win rate", "", f"{summary['val/win_rate']:.3f} (95% interval {low:.3f} to {high:.3f})"
    )
    if "val/kl" in summary:
        kl = f"{summary['val/kl']:.2f} nats a response"
        table.add_row("KL to the reference", "0", kl)
    table.add_row(
        "length", f"{summary['reference/length']:.1f}", f"{summary['val/length']:.1f} tokens"
    )
    return table


def places(folder: Path) -> list[str]:
    """Where everything of a run is."""
    files = {
        "model": ["model"],
        "metrics": ["metrics.csv", "summary.json"],
        "samples": ["samples.jsonl"],
        "report": ["report.md"],
    }
    lines = []
    for name, names in files.items():
        if there := [str(folder / n) for n in names if (folder / n).exists()]:
            lines.append(f"{name:8} {'  '.join(there)}")
    sync = sync_command(folder)
    if sync:
        lines.append(f"W&B      offline; to upload it: {sync}")
    elif (folder / "wandb").exists():
        lines.append(f"W&B      {folder / 'wandb'}")
    return lines


def say(console: Console, lines: Iterable[str]) -> None:
    """Lines as they are: brackets in them are no markup."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def say_what_was_cut(console: Console, counts: Mapping[str, int]) -> None:
    """How many prompts and responses were longer than their limit of tokens."""
    for what in ("prompts", "responses"):
        if cut := counts.get(f"{what} truncated"):
            limit = f"data.max_{what[:-1]}_tokens"
            console.print(
                f"{cut:,} of {counts[what]:,} {what} are longer than {limit} and were cut"
            )


def stage_line(stage: Stage) -> str:
    """What a person reads of a stage: trained or reused, from where, and how good it is."""
    made = (
        f"reused from {stage.path}"
        if stage.reused
        else f"trained in {stage.seconds:.0f} s, kept in {stage.path}"
    )
    numbers = ""
    if "val/accuracy" in stage.summary:
        s = stage.summary
        numbers = (
            f"\n  held-out accuracy {s['val/accuracy']:.3f}"
            f" [{s['val/accuracy_ci_low']:.3f}, {s['val/accuracy_ci_high']:.3f}];"
            f" the longer response is the preferred one in {s['val/accuracy_longer']:.3f}"
        )
        if "val/bayes_accuracy" in s:
            numbers += f"; the best possible is {s['val/bayes_accuracy']:.3f}"
    for what, count in stage.summary.items():
        if what.startswith(("train ", "val ")) and count:
            numbers += f"\n  {count:,} {what}: left out"
    for what in ("prompts", "responses"):
        if cut := stage.summary.get(f"{what} truncated"):
            numbers += f"\n  {cut:,} of {stage.summary[what]:,} {what} cut to the limit of tokens"
    if (stage.path / "report.md").is_file():
        numbers += f"\n  how good it is: {stage.path / 'report.md'}"
    return f"[bold]{stage.name}[/bold]: {made}{numbers}"
