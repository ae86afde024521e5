"""task=train: the whole pipeline, or one rung of it."""

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from harness.console import make_console, places, say_what_was_cut
from harness.pipeline import LIBRARIES, Pipeline
from harness.policy_run import train_policy
from harness.runs import open_run, steps_done
from harness.tracking import commit, log_model
from harness.trainer import quiet
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.supervised import SupervisedModule


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run `cfg.algo` with the stages that it needs; returns what summary.json holds."""
    quiet()
    console = make_console()
    pipeline = Pipeline(cfg, console)
    pipeline.check_backbone()
    run = pipeline.run = open_run(cfg)
    try:
        if run.finished:
            console.print(f"{run.folder} is finished already; there is nothing to resume")
            return json.loads((run.folder / "summary.json").read_text())
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
    if counts := [f"{n:,} {what}" for what, n in pipeline.source.counts.items() if n]:
        console.print("data: " + ", ".join(counts))
    algorithm = pipeline.algorithm
    if isinstance(algorithm, PolicyModule):
        result = train_policy(pipeline, algorithm)
    elif isinstance(algorithm, RewardModel):
        pipeline.reference()
        result = train_supervised(pipeline, algorithm, pipeline.fit_reward_model)
    else:
        result = train_supervised(pipeline, algorithm, pipeline.fit_sft)
    if rank_zero_only.rank > 0:
        return {}
    summary = write_summary(pipeline, result)
    run.save(finished=True)
    for line in places(run.folder):
        console.print(line, soft_wrap=True)
    return summary


def train_supervised(pipeline: Pipeline, module: SupervisedModule, fit: Callable) -> dict[str, Any]:
    """SFT or a reward model as a run of its own; its export is the run's model."""
    run = pipeline.run
    with pipeline.tracked(
        run.folder, module.name, run=run, keep_steps=steps_done(run.checkpoint)
    ) as loggers:
        result = fit(
            module,
            run.folder,
            loggers,
            checkpoints=run.folder / "checkpoints",
            resume_from=run.checkpoint,
        )
        if rank_zero_only.rank == 0:
            log_model(loggers, run.folder)
    for name, value in result.items():
        if name.startswith("val/") and name.count("/") == 1:
            pipeline.console.print(f"  {name:22} {value:.4f}")
    say_what_was_cut(pipeline.console, result)
    return result


def write_summary(pipeline: Pipeline, result: dict[str, Any]) -> dict[str, Any]:
    """summary.json: flat, with everything that one needs to compare this run with others."""
    cfg, run = pipeline.cfg, pipeline.run
    summary = {
        "algo": cfg.algo.name,
        "model": cfg.model.name,
        "data": cfg.data.name,
        "seed": cfg.seed,
        **{key: value for key, value in result.items() if not key.startswith("time/")},
        **{f"data/{key}": value for key, value in pipeline.source.counts.items()},
        "time/total": run.seconds,
    }
    for stage in pipeline.stages:
        summary[f"stages/{stage.name}/path"] = str(stage.path)
        summary[f"stages/{stage.name}/reused"] = stage.reused
        summary[f"stages/{stage.name}/seconds"] = stage.seconds
        for key, value in stage.summary.items():
            summary[f"stages/{stage.name}/{key}"] = value
    for library in LIBRARIES:
        summary[f"versions/{library}"] = version(library)
    summary["commit"] = commit()
    draft = run.folder / ".summary.json"
    draft.write_text(json.dumps(_without_nan(summary), indent=2))
    os.replace(draft, run.folder / "summary.json")
    return summary


def _without_nan(summary: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN; what is undefined is null."""
    return {k: None if v != v else v for k, v in summary.items()}
