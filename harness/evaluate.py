"""task=evaluate: how good a policy is, or a reward."""

import json
from typing import Any

from omegaconf import DictConfig

from harness.console import make_console, places, policy_summary, samples_table
from harness.evaluate_policy import evaluate_policy
from harness.judging import judge
from harness.pipeline import Pipeline
from harness.runs import open_run
from harness.tracking import log_report
from harness.train import write_summary
from harness.trainer import quiet
from lightning_modules.options import require_at_least


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate `cfg.policy` or, without one, `cfg.reward`; returns what summary.json holds."""
    quiet()
    options = cfg.evaluation
    require_at_least(1, "evaluation", prompts=options.prompts, batch_size=options.batch_size)
    pipeline = Pipeline(cfg, make_console())
    run = pipeline.run = open_run(cfg)
    try:
        numbers = _policy(pipeline) if cfg.policy else _reward(pipeline)
        summary = write_summary(pipeline, numbers)
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
    with pipeline.tracked(run.folder, "evaluate", run=run) as loggers:
        numbers, rows = evaluate_policy(pipeline, cfg.policy, cfg.against)
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
    with pipeline.tracked(run.folder, "evaluate", run=run) as loggers:
        numbers = judge(
            pipeline.reward.raw_scores,
            pairs,
            run.folder,
            title=f"Reward {cfg.reward.name} on {cfg.data.name}",
            left_out=pipeline.source.counts,
        )
        log_report(loggers, run.folder, numbers)
    for name, value in numbers.items():
        if name.count("/") == 1:
            console.print(f"  {name:36} {value:.4f}")
    return numbers
