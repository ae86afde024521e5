"""Evaluating a policy or a reward, as a run of its own."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig

from harness.disk.files import STATE, write_text
from harness.evaluation.judged import judge_responses
from harness.evaluation.match import (
    evaluate_policy,
    held_out,
    template_notes,
)
from harness.generation.player import check_players, fit_to_players
from harness.overrides import place_of
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.parts.players import names_of, short_name
from harness.parts.score_scale import reward_notes
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.planning import learns
from harness.quiet import quiet_transformers
from harness.reports.console import (
    Drawing,
    draw,
    make_console,
    numbers_shown,
    places,
    policy_summary,
    samples_table,
    say,
)
from harness.reports.held_out_pairs import judge_held_out
from harness.reports.lessons import say_lessons
from harness.reports.limits import say_limits
from harness.reports.model_words import counted, reward_words
from harness.reports.plain_console import NAME, WHOLE, line
from harness.runs.command import is_job_in_turn
from harness.runs.folder import open_run
from harness.runs.identity import input_differences, read_state
from harness.runs.summary import write_summary
from harness.runs.used_stages import REFERENCE
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from harness.typed import from_here


def evaluate_chosen(choices: Choices, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the policy that is chosen or, without one, the reward; returns summary.json.

    `notes` say where the options come from.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console(terse=is_job_in_turn()))
    if pipeline.cfg.policy:
        players = [(option, pipeline.cfg[option]) for option in ("policy", "against")]
        check_players(pipeline, players, ("val",))
        if pipeline.judge:
            pipeline.judge.check(pipeline.judge_context())
        pipeline.check_prompts(held_out(pipeline))
    else:
        pipeline.check_prompts(pipeline.source.prompts("val"))
    run = pipeline.run = open_run(pipeline.cfg, partial(inputs, pipeline.cfg, pipeline.source))
    try:
        say(pipeline.console, [*run.notes, *notes, *_changes(pipeline)])
        with pipeline.console.log.kept_in(run.folder, pipeline.cfg, resumed=run.resumed):
            judged = _policy if pipeline.cfg.policy else _reward
            numbers, drawings = judged(pipeline)
            limits = pipeline.limits.options() if pipeline.cfg.policy else {}
            summary = write_summary(
                run,
                pipeline.cfg,
                numbers,
                data={**pipeline.source.counts, **limits},
                stages=pipeline.stages,
            )
            run.save(finished=True)
            draw(pipeline.console, *drawings, partial(places, run.folder))
            return summary
    finally:
        pipeline.reward.release()
        run.release()


def _policy(pipeline: Pipeline) -> tuple[dict[str, float], list[Drawing]]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    policy, opponent = player_names(cfg.policy, cfg.against)
    rest = [
        f" on {cfg.data.name}, by reward {cfg.reward.name}; in ",
        (from_here(run.folder), WHOLE),
    ]
    console.print(line((policy, NAME), " against ", (opponent, NAME), *rest))
    say(console, template_notes(pipeline, cfg.policy, cfg.against))
    fit_to_players(pipeline, [cfg.policy, cfg.against])
    say_limits(console, pipeline.limits)
    prompts, temperature = len(held_out(pipeline)), cfg.evaluation.temperature
    told = f"on {counted(prompts, 'held-out prompt')}, a response to each at a temperature of"
    say(console, [f"{told} {temperature:g}"])
    with tracked(cfg, run, run.folder, "evaluate", is_run=True) as loggers:
        numbers, rows = evaluate_policy(pipeline, cfg.policy, cfg.against)
        say(console, [_scores(pipeline), *reward_notes(pipeline.reward)])
        if pipeline.judge:
            numbers |= judge_responses(pipeline, rows)
        for logger in loggers:
            logger.log_metrics(numbers, step=0)
    write_text(run.folder / "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    names = opponent, policy
    return numbers, [
        partial(samples_table, rows, names=names),
        partial(policy_summary, numbers, names),
    ]


def player_names(policy: str, against: str | None) -> tuple[str, str]:
    """What two policies are called beside each other."""
    if against is None:
        return short_name(policy), REFERENCE
    first, second = names_of([policy, against])
    return first, second


def _scores(pipeline: Pipeline) -> str:
    """What gives the scores, once it is loaded."""
    stages = {stage.name: stage for stage in pipeline.stages}
    return f"reward: {reward_words(pipeline.reward, pipeline.cfg.data.name, stages)}"


def _changes(pipeline: Pipeline) -> list[str]:
    """What the options of the run that is evaluated name, and is not what it was when it began."""
    origin = pipeline.origin
    if origin is None:
        return []
    was = read_state(origin.folder / STATE).get("inputs") or {}
    now = pipeline.run.inputs or {}
    typed = tuple(place_of(override) for override in HydraConfig.get().overrides.task)
    both = [k for k in was if k in now and not any(f"{t}.".startswith(f"{k}.") for t in typed)]
    changes = input_differences({k: was[k] for k in both}, {k: now[k] for k in both})
    return [f"not as {origin.folder} had it: {change}" for change in changes]


def _reward(pipeline: Pipeline) -> tuple[dict[str, float], list[Drawing]]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    pairs, thumbs = pipeline.source.preferences("val"), pipeline.source.thumbs("val")
    reward, data = (f"reward {cfg.reward.name}", NAME), (cfg.data.name, NAME)
    counts = [(len(pairs), "pairs"), (len(thumbs), "thumbs")]
    on = " and ".join(f"{count:,} held-out {what}" for count, what in counts if count)
    on = f" on {on} of "
    console.print(line(reward, on, data, "; in ", (from_here(run.folder), WHOLE)))
    if learns(pipeline.reward):
        say_limits(console, pipeline.limits)
    pipeline.reward.bind(pipeline.reward_context())
    pipeline.reward.to(pipeline.device)
    say(console, [_scores(pipeline), *reward_notes(pipeline.reward)])
    say_lessons(console, pipeline.source, "val")
    with tracked(cfg, run, run.folder, "evaluate", is_run=True) as loggers:
        numbers = judge_held_out(
            pipeline.reward.raw_scores,
            pipeline.source,
            run.folder,
            title=f"Reward {cfg.reward.name} on {cfg.data.name}",
            left_out=pipeline.source.counts,
            bias=pipeline.reward.thumbs_bias,
        )
        for tracker in trackers(loggers):
            tracker.log_report(run.folder, numbers)
    return numbers, [partial(numbers_shown, numbers)]
