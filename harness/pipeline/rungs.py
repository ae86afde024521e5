"""A training from its first line on the terminal to its last."""

from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from harness.disk.files import SUMMARY, going_on_later, read_json
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.pipeline.fitting import fit_reward_model, fit_sft
from harness.pipeline.pipeline import Pipeline
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
from harness.reports.plain_console import line
from harness.runs.checkpoints import steps_done
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.signals import Stopped, remember
from harness.tracking.loggers import tracked
from harness.tracking.tracker import trackers
from harness.typed import option
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.supervised import SupervisedModule


def train_chosen(choices: Choices) -> dict[str, Any]:
    """Run what is chosen with the stages that it needs, in a folder; returns summary.json."""
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    pipeline.check_language_model()
    pipeline.check_conversations()
    run = pipeline.run = open_run(pipeline.cfg, partial(inputs, pipeline.cfg, pipeline.source))
    try:
        say(pipeline.console, run.notes)
        if run.finished:
            pipeline.console.print(
                f"{run.folder} is finished already; there is nothing to resume", soft_wrap=True
            )
            return read_json(run.folder / SUMMARY)
        with going_on_later(run.folder):
            return _train(pipeline)
    except Stopped as stop:
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        resume = "" if in_sweep else f" with {option('resume', run.folder)}"
        stop.how = f"the same command{resume} goes on"
        pipeline.console.print(stop.line(), soft_wrap=True)
        raise
    finally:
        remember(None)
        run.release()


def _train(pipeline: Pipeline) -> dict[str, Any]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    algo, model, data = ((part.name, "bold") for part in (cfg.algo, cfg.model, cfg.data))
    place = f", seed {cfg.seed}; in {run.folder}"
    if run.resumed:
        place += f", resumed from {run.checkpoint or 'its beginning'}"
    console.print(line(algo, " of ", model, " on ", data, place), soft_wrap=True)
    say_lessons(console, pipeline.source)
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
        run, pipeline.cfg, result, rows=pipeline.source.counts, stages=pipeline.stages
    )
    run.save(finished=True)
    draw(console, *drawings, partial(places, run.folder))
    return summary


def _train_supervised(
    pipeline: Pipeline, module: SupervisedModule, fit: Callable
) -> tuple[dict[str, Any], list[Drawing]]:
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
    shown = {k: v for k, v in result.items() if k.startswith("val/")}
    return result, [partial(numbers_shown, shown), partial(what_was_cut, result)]
