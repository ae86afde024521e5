"""Evaluating a policy or a reward, as a run of its own."""

import json
from typing import Any

from harness.evaluation.match import check_players, evaluate_policy, held_out, template_notes
from harness.parts.choices import Choices
from harness.parts.score_scale import reward_notes
from harness.pipeline.pipeline import Pipeline
from harness.quiet import quiet_transformers
from harness.reports.console import make_console, places, policy_summary, samples_table, say
from harness.reports.held_out_pairs import judge
from harness.reports.lessons import say_lessons
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers


def evaluate_chosen(choices: Choices) -> dict[str, Any]:
    """Evaluate the policy that is chosen or, without one, the reward; returns summary.json."""
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    if pipeline.cfg.policy:
        check_players(pipeline, pipeline.cfg.policy, pipeline.cfg.against)
        pipeline.check_prompts(held_out(pipeline))
    else:
        pipeline.check_prompts([pair.prompt for pair in pipeline.source.preferences("val")])
    run = pipeline.run = open_run(pipeline.cfg)
    try:
        numbers = _policy(pipeline) if pipeline.cfg.policy else _reward(pipeline)
        summary = write_summary(
            run, pipeline.cfg, numbers, rows=pipeline.source.counts, stages=pipeline.stages
        )
        run.save(finished=True)
        for line in places(run.folder):
            pipeline.console.print(line, soft_wrap=True)
        return summary
    finally:
        run.release()


def _policy(pipeline: Pipeline) -> dict[str, float]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    console.print(
        f"[bold]{cfg.policy}[/bold] against [bold]{cfg.against or 'the reference'}[/bold] on"
        f" {cfg.data.name}, by reward {cfg.reward.name}; in {run.folder}",
        soft_wrap=True,
    )
    say(console, template_notes(pipeline, cfg.policy, cfg.against))
    with tracked(cfg, run, run.folder, "evaluate", is_run=True) as loggers:
        numbers, rows = evaluate_policy(pipeline, cfg.policy, cfg.against)
        say(console, reward_notes(pipeline.reward))
        for logger in loggers:
            logger.log_metrics(numbers, step=0)
    samples = run.folder / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    console.print(samples_table(rows))
    console.print(policy_summary(numbers))
    return numbers


def _reward(pipeline: Pipeline) -> dict[str, float]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    pairs = pipeline.source.preferences("val")
    console.print(
        f"[bold]reward {cfg.reward.name}[/bold] on {len(pairs):,} held-out pairs of"
        f" [bold]{cfg.data.name}[/bold]; in {run.folder}",
        soft_wrap=True,
    )
    pipeline.reward.bind(pipeline.reward_context())
    pipeline.reward.to(pipeline.device)
    say(console, reward_notes(pipeline.reward))
    say_lessons(console, pipeline.source, "val")
    with tracked(cfg, run, run.folder, "evaluate", is_run=True) as loggers:
        numbers = judge(
            pipeline.reward.raw_scores,
            pairs,
            run.folder,
            title=f"Reward {cfg.reward.name} on {cfg.data.name}",
            left_out=pipeline.source.counts,
        )
        for tracker in trackers(loggers):
            tracker.log_report(run.folder, numbers)
    for name, value in numbers.items():
        if name.count("/") == 1:
            console.print(f"  {name:36} {value:.4f}")
    return numbers
