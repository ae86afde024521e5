"""A training from its first line on the terminal to its last."""

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.parts.choices import Choices
from harness.pipeline.fitting import fit_reward_model, fit_sft
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.policy_training import train_policy
from harness.quiet import quiet_transformers
from harness.ranks import this_rank
from harness.reports.console import make_console, places, say, say_what_was_cut
from harness.runs.checkpoints import steps_done
from harness.runs.files import SUMMARY, going_on_later, read_json
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.supervised import SupervisedModule


def train_chosen(choices: Choices) -> dict[str, Any]:
    """Run what is chosen with the stages that it needs, in a folder; returns summary.json."""
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    pipeline.check_language_model()
    run = pipeline.run = open_run(pipeline.cfg)
    try:
        if run.finished:
            pipeline.console.print(f"{run.folder} is finished already; there is nothing to resume")
            return read_json(run.folder / SUMMARY)
        with going_on_later(run.folder):
            return _train(pipeline)
    finally:
        run.release()


def _train(pipeline: Pipeline) -> dict[str, Any]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    console.print(
        f"[bold]{cfg.algo.name}[/bold] of [bold]{cfg.model.name}[/bold] on"
        f" [bold]{cfg.data.name}[/bold], seed {cfg.seed}; in {run.folder}"
        + (f", resumed from {run.checkpoint or 'its beginning'}" if run.resumed else ""),
        soft_wrap=True,
    )
    say(console, run.notes)
    if counts := [f"{n:,} {what}" for what, n in pipeline.source.counts.items() if n]:
        console.print("data: " + ", ".join(counts))
    algorithm = pipeline.algorithm
    if isinstance(algorithm, PolicyModule):
        result = train_policy(pipeline, algorithm)
    elif isinstance(algorithm, RewardModel):
        start = pipeline.reference()
        result = _train_supervised(pipeline, algorithm, partial(fit_reward_model, pipeline, start))
    else:
        result = _train_supervised(pipeline, algorithm, partial(fit_sft, pipeline))
    if this_rank() > 0:
        return {}
    summary = write_summary(
        run, pipeline.cfg, result, rows=pipeline.source.counts, stages=pipeline.stages
    )
    run.save(finished=True)
    for line in places(run.folder):
        console.print(line, soft_wrap=True)
    return summary


def _train_supervised(
    pipeline: Pipeline, module: SupervisedModule, fit: Callable
) -> dict[str, Any]:
    """SFT or a reward model as a run of its own; its export is the run's model."""
    cfg, run = pipeline.cfg, pipeline.run
    done = steps_done(run.checkpoint)
    with tracked(cfg, run, run.folder, module.name, is_run=True, keep_steps=done) as loggers:
        say(pipeline.console, [note for log in loggers[:1] for note in log.notes])
        result = fit(
            module,
            run.folder,
            loggers,
            checkpoints=run.folder / "checkpoints",
            resume_from=run.checkpoint,
        )
        for tracker in trackers(loggers):
            tracker.log_model(run.folder)
    for name, value in result.items():
        if name.startswith("val/") and name.count("/") == 1:
            pipeline.console.print(f"  {name:22} {value:.4f}")
    say_what_was_cut(pipeline.console, result)
    return result
