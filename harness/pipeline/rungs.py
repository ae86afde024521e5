"""A training from its first line on the terminal to its last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from harness.disk.files import LOG, SUMMARY, going_on_later, read_json
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.pipeline.advice import say_advice
from harness.pipeline.fitting import fit_reward_model, fit_sft
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.planning import plan_of
from harness.pipeline.policy_training import train_policy
from harness.quiet import quiet_transformers
from harness.ranks import this_rank
from harness.reports.console import (
    Drawing,
    draw,
    make_console,
    numbers_shown,
    places,
    say,
    what_was_cut,
)
from harness.reports.lessons import say_lessons
from harness.reports.limits import say_limits
from harness.reports.plain_console import NAME, WHOLE, line
from harness.runs.checkpoints import steps_done
from harness.runs.command import ROUND, is_job_in_turn
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.signals import Stopped, remember
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from harness.typed import from_here, option
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.supervised import SupervisedModule


def train_chosen(choices: Choices, *, terse: bool = False) -> dict[str, Any]:
    """Run what is chosen with the stages that it needs, in a folder; returns summary.json."""
    return in_a_run(choices, _train, terse=terse)


def in_a_run(
    choices: Choices, do: Callable[[Pipeline], dict[str, Any]], *, terse: bool = False
) -> dict[str, Any]:
    """Have `do` fill a run's folder, new or to be gone on with; returns what it returns, which is
    that run's summary.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console(terse=terse or is_job_in_turn()))
    if pipeline.language_model.embedded or not isinstance(pipeline.algorithm, PolicyModule):
        pipeline.source.require_feedback()
    pipeline.check_language_model()
    pipeline.check_conversations()
    run = pipeline.run = open_run(pipeline.cfg, partial(inputs, pipeline.cfg, pipeline.source))
    try:
        say(pipeline.console, run.notes)
        if run.finished:
            there = (from_here(run.folder), WHOLE)
            pipeline.console.print(line(there, " is finished already; there is nothing to resume"))
            return read_json(run.folder / SUMMARY)
        with (
            pipeline.console.log.kept_in(run.folder, pipeline.cfg, resumed=run.resumed),
            told_if_stopped(pipeline),
            going_on_later(run.folder),
        ):
            return do(pipeline)
    finally:
        remember(None)
        pipeline.reward.release()
        run.release()


@contextmanager
def told_if_stopped(pipeline: Pipeline) -> Iterator[None]:
    """Say what a signal has left, and how to go on."""
    try:
        yield
    except Stopped as stop:
        if stop.told:
            raise
        stop.told = True
        told = [f"{stop.line()}; the same command "]
        if HydraConfig.get().mode == RunMode.RUN:  # in a sweep every job goes on by itself
            folder = pipeline.run.folder
            whole = folder.parent if ROUND in pipeline.cfg else folder
            told += ["with ", (option("resume", from_here(whole)), WHOLE), " "]
        pipeline.console.tell(line(*told, "goes on"))
        raise


def _train(pipeline: Pipeline) -> dict[str, Any]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    algo, model, data = ((part.name, NAME) for part in (cfg.algo, cfg.model, cfg.data))
    place = [f", seed {cfg.seed}; in ", (from_here(run.folder), WHOLE)]
    if run.resumed:
        place += [
            ", resumed from ",
            (from_here(run.checkpoint) if run.checkpoint else "its beginning", WHOLE),
        ]
    console.print(line(algo, " of ", model, " on ", data, *place))
    say_lessons(console, pipeline.source)
    say_advice(console, pipeline)
    say_limits(console, pipeline.limits)
    pipeline.plan = plan_of(pipeline)
    pipeline.plan.show()
    algorithm = pipeline.algorithm
    if isinstance(algorithm, PolicyModule):
        result, drawings = train_policy(pipeline, algorithm)
    elif isinstance(algorithm, RewardModel):
        start = pipeline.reference()
        fit = partial(fit_reward_model, pipeline, start)
        result, drawings = _train_supervised(pipeline, algorithm, fit)
    else:
        result, drawings = _train_supervised(pipeline, algorithm, partial(fit_sft, pipeline))
    if this_rank() > 0:
        return {}
    summary = write_summary(
        run,
        pipeline.cfg,
        result,
        data={**pipeline.source.counts, **pipeline.limits.options()},
        stages=pipeline.stages,
    )
    run.save(finished=True)
    draw(console, *drawings, partial(places, run.folder))
    pipeline.plan.finish()
    if console.terse and console.warnings:
        warnings = f"{console.warnings} warning{'s' * (console.warnings > 1)}"
        console.tell(line(warnings, " in ", (run.folder / LOG, WHOLE)))
    return summary


def _train_supervised(
    pipeline: Pipeline, module: SupervisedModule, fit: Callable
) -> tuple[dict[str, Any], list[Drawing]]:
    """SFT or a reward model as a run of its own; its export is the run's model."""
    cfg, run = pipeline.cfg, pipeline.run
    done = steps_done(run.checkpoint)
    pipeline.plan.begin(module.name)
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
    shown = {k: v for k, v in result.items() if k.startswith("val/")}
    return result, [partial(numbers_shown, shown), partial(what_was_cut, result)]
