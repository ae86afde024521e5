"""The responses of two policies compared by a judge, in both orders."""

from collections.abc import Sequence
from typing import Any

from harness.errors import RunError
from harness.evaluation.match import held_out
from harness.judging.both_orders import Pair, columns, in_both_orders, no_verdicts
from harness.pipeline.pipeline import Pipeline
from harness.progress.counting import Counting
from harness.reports.console import say
from harness.reports.model_words import counted
from lightning_modules.metrics.judgements import judged_metrics

# Names of the two responses in a row.
POLICYS, OPPONENTS = "answer", "reference_answer"


def judge_responses(pipeline: Pipeline, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`val/judge_*`: how often the policy's response is the better one by the judge, and what else
    is known of its verdicts, and `judge/*`, what they took. Each row gets its `verdict`.

    RunError if there is none; what was answered is in the judge's cache.
    """
    judge, console = pipeline.judge, pipeline.console
    pairs = [
        Pair(prompt, row[POLICYS], row[OPPONENTS])
        for prompt, row in zip(held_out(pipeline), rows, strict=True)
    ]
    say(console, [f"judge: {judge.words}; {counted(len(pairs), 'pair')}, each in both orders"])
    judge.bind(pipeline.judge_context())
    with Counting(console, "pairs judged", len(pairs)) as counting:
        judged = in_both_orders(judge, pairs, counting)
    for row, each in zip(rows, judged, strict=True):
        winner = {"first": POLICYS, "second": OPPONENTS}.get(each.winner, each.winner)
        row["verdict"] = each.row() | {"winner": winner}
    found = columns(judged)
    if not found.scored.any():
        raise RunError(f"the judge gave no verdict on any pair: {no_verdicts(judged)}")
    numbers = {f"val/judge_{name}": value for name, value in judged_metrics(found).items()}
    return numbers | judge.counted()
