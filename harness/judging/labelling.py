"""Pairs labelled by a judge, as a run of its own."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.text import Text

from datamodules.sources.cleaning import NO_LOSS
from datamodules.sources.source import Split
from harness.disk.files import write_text
from harness.errors import RunError
from harness.feedback.items import Item
from harness.feedback.pairs import write_rows
from harness.judging.both_orders import UNSCORED, in_both_orders, no_verdicts
from harness.judging.numbers import judge_numbers
from harness.judging.pairs import (
    Asked,
    label_rows,
    pairs_of_data,
    pairs_of_items,
    verdict_lines,
)
from harness.judging.report import summary_table, write_report
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.parts.parts import Parts
from harness.pipeline.rungs import told_if_stopped
from harness.progress.counting import Counting
from harness.quiet import quiet_transformers
from harness.reports.console import draw, make_console, places, say
from harness.reports.lessons import say_lessons
from harness.reports.model_words import counted
from harness.reports.plain_console import WHOLE, line
from harness.runs.command import is_job_in_turn
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.signals import remember
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from harness.typed import from_here
from lightning_modules.judges.judge import Judge

PAIRS, VERDICTS = "pairs.jsonl", "verdicts.jsonl"


def label_chosen(
    choices: Choices,
    items: Sequence[Item] | None,
    counts: Mapping[str, int],
    splits: Sequence[Split],
) -> dict[str, Any]:
    """Label the pairs of `items`, whose file had these `counts`, or without them those of the
    data's `splits`; returns summary.json. RunError if no pair got a verdict.
    """
    quiet_transformers()
    parts = Parts(choices, make_console(terse=is_job_in_turn()))
    if items is None:
        asked = pairs_of_data(parts.source, splits, parts.cfg.pairs)
    else:
        left_out = {what: n for what, n in counts.items() if what != "rows"}
        asked = pairs_of_items(items, parts.cfg.pairs, left_out)
    if not asked.pairs:
        raise RunError(f"data={parts.cfg.data.name}: has no pairs in split={parts.cfg.split}")
    judge = parts.judge
    judge.check(parts.judge_context())
    run = parts.run = open_run(parts.cfg, partial(inputs, parts.cfg, parts.source))
    try:
        with parts.console.log.kept_in(run.folder, parts.cfg, resumed=run.resumed):
            say(parts.console, [*run.notes, _beginning(parts, asked, judge)])
            if asked.labelled:
                say_lessons(parts.console, parts.source, splits[-1])
            with told_if_stopped(parts):
                remember("what was answered, in the judge's cache")
                return _labelled(parts, asked, judge)
    finally:
        run.release()


def _beginning(parts: Parts, asked: Asked, judge: Judge) -> Text:
    of = _of(parts, asked)
    many = f"{counted(len(asked.pairs), 'pair')} of {of}: {2 * len(asked.pairs):,} questions"
    return line(f"{judge.words}, on {many}; in ", (from_here(parts.run.folder), WHOLE))


def _of(parts: Parts, asked: Asked) -> str:
    """Whose pairs they are."""
    return str(parts.cfg.data.name if asked.labelled else parts.cfg["items"])


def _labelled(parts: Parts, asked: Asked, judge: Judge) -> dict[str, Any]:
    run, console = parts.run, parts.console
    judge.bind(parts.judge_context())
    with Counting(console, "pairs judged", len(asked.pairs)) as counting:
        judged = in_both_orders(judge, asked.pairs, counting)
    write_text(run.folder / VERDICTS, "".join(verdict_lines(judged)))
    if all(each.winner == UNSCORED for each in judged):
        raise RunError(f"the judge gave no verdict on any pair: {no_verdicts(judged)}")
    rows = list(label_rows(judged, judge.words))
    write_rows(run.folder / PAIRS, rows)
    numbers = judge_numbers(asked, judged)
    lost = {what: n for what, n in parts.source.counts.items() if what not in NO_LOSS}
    write_report(
        run.folder,
        title=f"{judge.words}, on {_of(parts, asked)}",
        asked=asked,
        judged=judged,
        numbers=numbers,
        counts=judge.counts,
        left_out={**(lost if asked.labelled else {}), **asked.left_out},
    )
    told = {f"judge/{name}": value for name, value in numbers.items()}
    winners = sum(row["strength"] > 0 for row in rows)
    told |= {"judge/pairs": len(judged), "judge/labelled": winners}
    summary = _kept(parts, asked, told | judge.counted())
    draw(
        console,
        partial(summary_table, numbers, judge.counts),
        partial(_what_is_where, parts, len(rows), winners),
    )
    return summary


def _kept(parts: Parts, asked: Asked, numbers: Mapping[str, float]) -> dict[str, Any]:
    """Tell the loggers, and write the summary, which is returned: the run is finished."""
    cfg, run = parts.cfg, parts.run
    with tracked(cfg, run, run.folder, "judge", is_run=True) as loggers:
        for logger in loggers:
            logger.log_metrics(dict(numbers), step=0)
        for tracker in trackers(loggers):
            tracker.log_report(run.folder, numbers)
    counts = dict(parts.source.counts) if asked.labelled else dict(asked.left_out)
    summary = write_summary(run, cfg, numbers, data=counts, stages=[])
    run.save(finished=True)
    return summary


def _what_is_where(parts: Parts, labelled: int, winners: int) -> list[Text]:
    folder, ties = parts.run.folder, labelled - winners
    told = f" ({counted(labelled, 'pair')} for data=files, {ties:,} of them ties)"
    return [
        line("labels    ", (from_here(folder / PAIRS), WHOLE), told),
        line("verdicts  ", (from_here(folder / VERDICTS), WHOLE)),
        *places(folder),
    ]
