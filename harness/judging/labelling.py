"""Pairs labelled by a judge, as a run of its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.text import Text

from datamodules.sources.cleaning import NO_LOSS
from datamodules.sources.source import Split
from harness.disk.files import write_text
from harness.errors import RunError
from harness.feedback.answers import AnsweredPrompt
from harness.feedback.pairs import PAIRS, write_pairs
from harness.judging.both_orders import UNSCORED, in_both_orders, no_verdicts
from harness.judging.numbers import judge_numbers
from harness.judging.pairs import Asked, labels, pairs_of_answers, pairs_of_data, verdict_lines
from harness.judging.report import summary_table, write_report
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.parts.parts import Parts
from harness.progress.counting import Counting
from harness.quiet import quiet_transformers
from harness.reports.console import draw, make_console, places, say
from harness.reports.lessons import say_lessons
from harness.reports.model_words import counted
from harness.reports.plain_console import WHOLE, line
from harness.runs.command import is_job_in_turn
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from harness.typed import from_here
from lightning_modules.judges.judge import Judge

VERDICTS = "verdicts.jsonl"


def label_chosen(
    choices: Choices, answers: Sequence[AnsweredPrompt] | None, splits: Sequence[Split]
) -> dict[str, Any]:
    """Label the pairs of `answers` or, without them, those of the data's `splits`; returns
    summary.json. RunError if no pair got a verdict.
    """
    quiet_transformers()
    parts = Parts(choices, make_console(terse=is_job_in_turn()))
    asked = _asked(parts, answers, splits)
    judge = parts.judge
    judge.check(parts.judge_context())
    run = parts.run = open_run(parts.cfg, partial(inputs, parts.cfg, parts.source))
    try:
        with parts.console.log.kept_in(run.folder, parts.cfg, resumed=run.resumed):
            say(parts.console, [*run.notes, _beginning(parts, asked, judge)])
            if asked.labelled:
                say_lessons(parts.console, parts.source, splits[-1])
            return _labelled(parts, asked, judge)
    finally:
        run.release()


def _asked(
    parts: Parts, answers: Sequence[AnsweredPrompt] | None, splits: Sequence[Split]
) -> Asked:
    options = parts.cfg.judging
    if answers is None:
        return pairs_of_data(parts.source, splits, options.pairs)
    asked = pairs_of_answers(answers, options.per_prompt, options.pairs, parts.cfg.seed)
    if not asked.pairs:
        raise RunError(
            f"answers={parts.cfg.answers}: no prompt in it has two answers that differ; generate"
            " several of each, or those of two policies"
        )
    return asked


def _beginning(parts: Parts, asked: Asked, judge: Judge) -> Text:
    of = parts.cfg.answers if parts.cfg.answers else parts.cfg.data.name
    many = f"{counted(len(asked.pairs), 'pair')} of {of}: {2 * len(asked.pairs):,} questions"
    return line(f"{judge.words}, on {many}; in ", (from_here(parts.run.folder), WHOLE))


def _labelled(parts: Parts, asked: Asked, judge: Judge) -> dict[str, Any]:
    cfg, run, console = parts.cfg, parts.run, parts.console
    judge.bind(parts.judge_context())
    with Counting(console, "pairs judged", len(asked.pairs)) as counting:
        judged = in_both_orders(judge, asked.pairs, counting)
    write_text(run.folder / VERDICTS, "".join(verdict_lines(judged)))
    if all(each.winner == UNSCORED for each in judged):
        raise RunError(f"the judge gave no verdict on any pair: {no_verdicts(judged)}")
    labelled = list(labels(judged, judge.words))
    write_pairs(run.folder / PAIRS, labelled)
    numbers = judge_numbers(asked, judged)
    lost = {what: n for what, n in parts.source.counts.items() if what not in NO_LOSS}
    left_out = {**(lost if asked.labelled else {}), **asked.left_out}
    write_report(
        run.folder,
        title=f"{judge.words}, on {cfg.data.name if asked.labelled else 'answers'}",
        asked=asked,
        judged=judged,
        numbers=numbers,
        counts=judge.counts,
        left_out=left_out,
    )
    told = {f"judge/{name}": value for name, value in numbers.items()}
    told |= {"judge/pairs": len(judged), "judge/labelled": len(labelled)}
    told |= {f"judge/{name}": count for name, count in judge.counts.as_dict().items()}
    with tracked(cfg, run, run.folder, "judge", is_run=True) as loggers:
        for logger in loggers:
            logger.log_metrics(told, step=0)
        for tracker in trackers(loggers):
            tracker.log_report(run.folder, told)
    counts = dict(parts.source.counts) if asked.labelled else dict(asked.left_out)
    summary = write_summary(run, cfg, told, data=counts, stages=[])
    run.save(finished=True)
    draw(
        console,
        partial(summary_table, numbers, judge.counts),
        partial(_what_is_where, parts, len(labelled)),
    )
    return summary


def _what_is_where(parts: Parts, labelled: int) -> list[Text]:
    folder = parts.run.folder
    pairs, verdicts = from_here(folder / PAIRS), from_here(folder / VERDICTS)
    return [
        line("labels    ", (pairs, WHOLE), f" ({counted(labelled, 'pair')} for data=files)"),
        line("verdicts  ", (verdicts, WHOLE)),
        *places(folder),
    ]
