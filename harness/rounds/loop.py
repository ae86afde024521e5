"""Rounds: pairs of the policy so far, their labels, a reward model of all labels, and on.

    <folder>/answers/round-1.jsonl   what the policy said, two answers to a prompt
    <folder>/labels/round-1.jsonl    which was preferred
    <folder>/round-1/                a run: the reward model is fitted, the policy goes on
    <folder>/answers/round-2.jsonl   ...

Each is whole or gone on with, so that a killed process costs what it had in hand, and no more.
"""

from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.feedback.pairs import Row, write_rows
from harness.parts.choices import Choices
from harness.pictures.drawing import drawn
from harness.pictures.rounds import draw_rounds
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.rungs import in_a_run, train_chosen
from harness.reports.console import draw, say
from harness.reports.limits import say_limits
from harness.reports.plain_console import NAME, WHOLE, line
from harness.rounds.accuracy import accuracy
from harness.rounds.command import as_command, round_overrides
from harness.rounds.labels import by_gold, by_judge, by_people, teaches
from harness.rounds.pairs import Pair, sample_pairs
from harness.rounds.table import kept, rounds_table, told
from harness.runs.summary import write_summary
from harness.runs.used_stages import LINKS
from harness.tracking.names import run_name
from harness.tracking.whole_rows import metrics_rows
from harness.typed import from_here, option, program

PICTURE = "rounds.png"
GOLD, JUDGE = "gold", "judge"  # who labels; people otherwise


def run_rounds(choices: Choices) -> dict[str, Any]:
    """Do the rounds that are chosen, in a folder; returns summary.json."""
    return in_a_run(choices, _rounds)


def _rounds(pipeline: Pipeline) -> dict[str, Any]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    algo, model, data = ((part.name, NAME) for part in (cfg.algo, cfg.model, cfg.data))
    many = f"{cfg.rounds} round{'s' * (cfg.rounds > 1)} of "
    place = [f", seed {cfg.seed}; in ", (from_here(run.folder), WHOLE)]
    console.print(line(many, algo, " of ", model, " on ", data, *place))
    say_limits(console, pipeline.limits)
    if cfg.labels == JUDGE:
        pipeline.judge.check(pipeline.judge_context())
    summaries: list[dict[str, Any]] = []
    pairs, before = _pairs(pipeline, 1, None), None
    for number in range(1, cfg.rounds + 1):
        console.tell(f"round {number} of {cfg.rounds}")
        labelled = _label(pipeline, number, pairs)
        summary = _train(pipeline, number, before)
        before = run.folder / f"round-{number}"
        is_last = number == cfg.rounds
        pairs = [] if is_last and not pipeline.source.gold else _pairs(pipeline, number + 1, before)
        summaries.append(summary | _about(pipeline, labelled, pairs, before))
        console.tell(told(number, summaries[-1]))
    return _finish(pipeline, summaries)


def _pairs(pipeline: Pipeline, number: int, before: Path | None) -> list[Pair]:
    """Those that are labelled in round `number`; the run `before` has trained the policy so far."""
    start = before or pipeline.cfg.algo.get("policy_from")
    policy = (start, None) if start else pipeline.reference()
    path = pipeline.run.folder / "answers" / f"round-{number}.jsonl"
    name = f"round {number - 1}" if before else start or "reference"
    return sample_pairs(pipeline, policy, name, path, number=number)


def _labels(pipeline: Pipeline, number: int) -> Path:
    return pipeline.run.folder / "labels" / f"round-{number}.jsonl"


def _label(pipeline: Pipeline, number: int, pairs: list[Pair]) -> int:
    """Have the pairs labelled, unless they are; returns how many labels there are."""
    path, console = _labels(pipeline, number), pipeline.console
    if not path.is_file():
        write_rows(path, _said(pipeline, number, pairs))
    if len(pairs) < (wanted := pipeline.cfg.pairs):
        few = f"round {number}: only {len(pairs):,} of {wanted:,} pairs"
        why = "the policy hardly ever says two different things"
        say(console, [f"caution: {few}: {why}"])
    labels = len(path.read_bytes().splitlines())
    if lost := len(pairs) - labels:
        say(console, [f"round {number}: {lost:,} of {len(pairs):,} pairs have no label"])
    return labels


def _said(pipeline: Pipeline, number: int, pairs: list[Pair]) -> list[Row]:
    """The labels of those who are asked."""
    cfg, console = pipeline.cfg, pipeline.console
    if cfg.labels == GOLD:
        return by_gold(pipeline.source, pairs, cfg.seed, number)
    if cfg.labels == JUDGE:
        pipeline.judge.bind(pipeline.judge_context())
        return by_judge(pipeline.judge, pairs)
    place = _labels(pipeline, number).with_suffix(".sqlite")
    told = f"to label the {len(pairs):,} pairs of round {number}; ctrl-c stops, and keeps all votes"
    return by_people(pairs, place, cfg, lambda address: console.tell(f"open {address} {told}"))


def _train(pipeline: Pipeline, number: int, before: Path | None) -> dict[str, Any]:
    """The run of a round; returns its summary."""
    files = [_labels(pipeline, k) for k in range(1, number + 1)]
    files = [file for file in files if teaches(file)]
    folder = pipeline.run.folder / f"round-{number}"
    overrides = round_overrides(pipeline.cfg, number, folder, before, files)
    with as_command(overrides, folder) as cfg:
        return train_chosen(Choices(cfg), terse=True)


def _about(
    pipeline: Pipeline, labelled: int, answers: list[Pair], run: Path
) -> dict[str, float | int]:
    """What is known of a round beside its own summary: `labels`, and what its reward model makes of
    the `answers` of the policy that it has trained.
    """
    found: dict[str, float | int] = {"labels": labelled}
    model = run / LINKS["reward_model"] / "model"
    if pipeline.source.gold and (own := accuracy(pipeline, model, answers)):
        found |= {
            "own_answers/accuracy": own.share,
            "own_answers/accuracy_ci_low": own.low,
            "own_answers/accuracy_ci_high": own.high,
            "own_answers/pairs": own.count,
        }
    return found


def _finish(pipeline: Pipeline, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of all rounds, a table and a picture."""
    cfg, run = pipeline.cfg, pipeline.run
    result = {k: v for k, v in summaries[-1].items() if k.startswith(("val/", "reference/"))}
    result["rollout/episodes"] = sum(summary["rollout/episodes"] for summary in summaries)
    for number, summary in enumerate(summaries, start=1):
        result |= {f"round_{number}/{name}": value for name, value in kept(summary).items()}
    folders = [run.folder / f"round-{number}" for number in range(1, cfg.rounds + 1)]
    picture = run.folder / PICTURE
    rows = [metrics_rows(folder / "metrics.csv").rows for folder in folders]
    drawn(picture, partial(draw_rounds, rows, summaries, run_name(run.config, cfg.algo.name)))
    summary = write_summary(
        run,
        cfg,
        result,
        data={**pipeline.source.counts, **pipeline.limits.options()},
        stages=pipeline.stages,
    )
    run.save(finished=True)
    draw(pipeline.console, partial(rounds_table, summaries), partial(_places, folders[-1], picture))
    return summary


def _places(last: Path, picture: Path) -> list[Text]:
    """Where what matters is."""
    return [
        line("policy    ", (from_here(last / "model"), WHOLE)),
        line("picture   ", (from_here(picture), WHOLE)),
        line(
            "compared  ",
            (f"{program()} task=compare {option('runs', from_here(last.parent))}", WHOLE),
        ),
    ]
