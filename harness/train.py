"""task=train: the whole pipeline, or one rung of it."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from datamodules.prompts import PromptDataModule
from datamodules.tokenization import Encoder, load_tokenizer
from harness.callbacks import ProgressBar, SampleTable
from harness.console import make_console, places, policy_summary, samples_table, start_table
from harness.errors import RunError
from harness.export import export
from harness.pipeline import LIBRARIES, Pipeline
from harness.runs import open_run
from harness.supervised import KeepBest
from harness.trainer import make_trainer, quiet
from harness.watch import OverOptimisationWatch
from lightning_modules.collection import Vocabulary
from lightning_modules.options import require
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.supervised import SupervisedModule


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run `cfg.algo` with the stages that it needs; returns what summary.json holds."""
    quiet()
    if missing := OmegaConf.missing_keys(cfg):
        raise RunError("; ".join(f"{key} has no value: give {key}=..." for key in sorted(missing)))
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


def train_policy(pipeline: Pipeline, algorithm: PolicyModule) -> dict[str, Any]:
    """Reference, reward, policy gradient, evaluation, export."""
    cfg, run = pipeline.cfg, pipeline.run
    encoder = bind_policy(pipeline, algorithm)
    data = PromptDataModule(
        pipeline.source,
        encoder,
        algorithm.options.prompts_per_iteration,
        algorithm.options.val_prompts,
        algorithm.options.micro_batch_size,
        cfg.seed,
    )
    done = _steps_done(run.checkpoint)
    samples = SampleTable(run.folder / "samples.jsonl", cfg.callbacks.samples, done)
    bar = ProgressBar(
        pipeline.console, algorithm.name, lambda trainer: algorithm.options.iterations
    )
    checkpoint = instantiate(cfg.callbacks.checkpoint, dirpath=run.folder / "checkpoints")
    stop = cfg.early_stop
    require(stop in (None, "gold"), "early_stop", stop, "must be gold, or null")
    watch = OverOptimisationWatch(run.folder, pipeline.console, stop=stop is not None)
    best = _keep_best(cfg.callbacks.keep_best)
    with pipeline.tracked(run.folder, algorithm.name, run=run, keep_steps=done) as loggers:
        trainer = make_trainer(
            cfg.hardware,
            max_epochs=algorithm.options.iterations,
            limit_train_batches=1,
            check_val_every_n_epoch=algorithm.options.evaluate_every,
            logger=loggers,
            callbacks=[samples, bar, watch, *best, checkpoint],
        )
        pipeline.console.print(
            start_table(algorithm, *map(len, data.rows.values()), trainer.world_size)
        )
        _say_what_was_cut(pipeline.console, encoder.counts)
        try:
            trainer.fit(
                algorithm,
                datamodule=data,
                ckpt_path=run.checkpoint,
                weights_only=True if run.checkpoint else None,
            )
        except (KeyboardInterrupt, SystemExit):
            pipeline.console.print(f"stopped; the same command with resume={run.folder} goes on")
            raise
        if not trainer.is_global_zero:
            return {}
        result = loggers[0].last_values()
    for kept in best:
        # What is exported is described.
        result |= {k: v for k, v in kept.metrics.items() if k.startswith("val/")}
        result["best/iteration"] = kept.epoch + 1
    export(algorithm.model.lm, encoder.tokenizer, run.folder)
    pipeline.console.print(samples_table(samples.latest))
    pipeline.console.print(policy_summary(result))
    return result | dict(encoder.counts)


def _keep_best(metric: str | None) -> list[KeepBest]:
    """`callbacks.keep_best`: at whose best value the policy is exported; null: the last one."""
    if metric is None:
        return []
    require(
        metric.startswith("val/"),
        "callbacks.keep_best",
        metric,
        "must be a held-out metric, such as val/gold or val/score",
    )
    return [KeepBest(metric, highest=metric not in ("val/kl", "val/kl_k3"))]


def bind_policy(pipeline: Pipeline, algorithm: PolicyModule) -> Encoder:
    """Give the algorithm its models, making the stages that it needs; returns its tokenizer."""
    path, revision = pipeline.reference()
    pipeline.reward.bind(pipeline.reward_context())
    encoder = pipeline.make_encoder(load_tokenizer(path, revision))
    model, reference = pipeline.actor_critic(algorithm.options.critic, pipeline.cfg.seed)
    algorithm.bind(
        model=model,
        reference=reference,
        reward=pipeline.reward,
        vocabulary=Vocabulary(
            encoder.stop_id, encoder.pad_id, encoder.max_response_tokens, encoder.decode
        ),
        gold=pipeline.source.gold,
        lr_multiplier=pipeline.lr_multiplier,
    )
    return encoder


def train_supervised(pipeline: Pipeline, module: SupervisedModule, fit: Callable) -> dict[str, Any]:
    """SFT or a reward model as a run of its own; its export is the run's model."""
    run = pipeline.run
    with pipeline.tracked(
        run.folder, module.name, run=run, keep_steps=_steps_done(run.checkpoint)
    ) as loggers:
        result = fit(
            module,
            run.folder,
            loggers,
            checkpoints=run.folder / "checkpoints",
            resume_from=run.checkpoint,
        )
    for name, value in result.items():
        if name.startswith("val/") and name.count("/") == 1:
            pipeline.console.print(f"  {name:22} {value:.4f}")
    _say_what_was_cut(pipeline.console, Counter(result))
    return result


def _steps_done(checkpoint: Path | None) -> int:
    """How many training steps (iterations of a policy) a checkpoint has behind it."""
    if checkpoint is None:
        return 0
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return state["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]


def _say_what_was_cut(console: Console, counts: Counter[str]) -> None:
    for what in ("prompts", "responses"):
        cut = counts[f"{what} truncated"]
        if cut:
            limit = f"data.max_{what[:-1]}_tokens"
            console.print(
                f"{cut:,} of {counts[what]:,} {what} are longer than {limit} and were cut"
            )


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
    summary["commit"] = _commit()
    draft = run.folder / ".summary.json"
    draft.write_text(json.dumps(_without_nan(summary), indent=2))
    os.replace(draft, run.folder / "summary.json")
    return summary


def _without_nan(summary: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN; what is undefined is null."""
    return {k: None if v != v else v for k, v in summary.items()}


def _commit() -> str | None:
    """The project's git commit, marked if the tree has changes; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
