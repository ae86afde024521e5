"""A policy-gradient run: reference, reward, training, evaluation, export."""

from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback

from datamodules.prompts import PromptDataModule, spread
from datamodules.sources.source import Source
from datamodules.tokenization.encoder import Encoder
from harness.checks.checkpoints import checkpoints_kept
from harness.checks.health import Health
from harness.checks.overoptimisation import OverOptimisationWatch
from harness.checks.room import chosen, make_room
from harness.checks.samplers import ChooseSampler
from harness.checks.selfcheck import SelfCheck
from harness.parts.hardware import make_trainer
from harness.parts.not_default import not_default
from harness.parts.score_scale import reward_notes
from harness.pipeline.critic_export import export_critic
from harness.pipeline.keep_best import KeepBest
from harness.pipeline.keep_state import KeepState
from harness.pipeline.model_folder import export, export_dtype
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.planning import backward_passes
from harness.pipeline.policy_models import bind_policy
from harness.progress.evaluations import OF_POLICIES, EvaluationLines
from harness.progress.policy_bar import PolicyBar
from harness.reports.chat_notes import chat_notes
from harness.reports.console import Drawing, policy_summary, samples_table, say, what_was_cut
from harness.reports.start_table import start_table
from harness.runs.checkpoints import steps_done
from harness.tracking.curves import CurvesPicture
from harness.tracking.loggers import tracked
from harness.tracking.names import run_name, swept_overrides
from harness.tracking.samples import SampleTable
from harness.tracking.traces import TokenTrace
from harness.tracking.tracker import trackers
from lightning_modules.models.adapters import training_notes
from lightning_modules.policy import PolicyModule

GLOSSARY = Path(__file__).parents[2] / "docs" / "metrics.md"


def train_policy(
    pipeline: Pipeline, algorithm: PolicyModule
) -> tuple[dict[str, Any], list[Drawing]]:
    """Train `algorithm` and export its policy; returns the final metrics, and what to show."""
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    options = algorithm.options
    number = checkpoints_kept(cfg.callbacks.get("keep_checkpoints", 1))
    best = keep_best(cfg.callbacks.keep_best)
    title = run_name(run.config, algorithm.name, swept_overrides(run.folder))
    begin = {"title": title, "from_reference": options.policy_from is None}
    watch = OverOptimisationWatch(run.folder, console, early_stop=cfg.early_stop, **begin)
    prompts = {split: pipeline.source.prompts(split) for split in ("train", "val")}
    pipeline.check_prompts(prompts["train"] + spread(prompts["val"], options.val_prompts))
    encoder = bind_policy(pipeline, algorithm)
    data = PromptDataModule(
        pipeline.source,
        encoder,
        options.prompts_per_iteration,
        options.val_prompts,
        options.micro_batch_size or options.sequences_per_iteration,
        cfg.seed,
    )
    counts = dict(encoder.counts)  # of the data; checks encode some prompts again
    done = steps_done(run.checkpoint)
    samples = SampleTable(run.folder / "samples.jsonl", cfg.callbacks.samples, done)
    tracking = {"is_run": True, "x_axis": "rollout/episodes", "keep_steps": done}
    with tracked(cfg, run, run.folder, algorithm.name, **tracking) as loggers:
        trainer = make_trainer(
            pipeline.hardware,
            max_epochs=options.all_iterations,
            limit_train_batches=1,
            check_val_every_n_epoch=options.evaluate_every,
            logger=loggers,
            # Checkpoints are saved last: they hold the state of the others.
            callbacks=[
                ChooseSampler(cfg.hardware.get("sampler", "auto"), console),
                *watchers(pipeline, algorithm, encoder, done),
                samples,
                watch,
                CurvesPicture(**begin),
                *best,
                instantiate(cfg.callbacks.checkpoint, dirpath=run.folder / "checkpoints", **number),
                KeepState(run.folder / "checkpoints", algorithm.name, "iteration"),
            ],
        )
        traces = [watcher for watcher in trainer.callbacks if isinstance(watcher, TokenTrace)]
        say(console, [note for kept in (*loggers[:1], samples, *traces) for note in kept.notes])
        algorithm.micro_batches.say = lambda line: say(console, [line])
        prompt_ids = [row.ids for row in data.rows["train"]]
        make_room(algorithm, trainer, prompt_ids, cfg.hardware.get("checkpointing", False))
        say_start(pipeline, algorithm, data, trainer.world_size)
        trainer.fit(
            algorithm,
            datamodule=data,
            ckpt_path=run.checkpoint,
            weights_only=True if run.checkpoint else None,
        )
        if not trainer.is_global_zero:
            return {}, []
        result = loggers[0].last_values()
        if pipeline.judge:
            result["judge"] = pipeline.judge.words
        for kept in best:
            # What is exported is described.
            result |= {k: v for k, v in kept.metrics.items() if k.startswith("val/")}
            result["best/iteration"] = kept.epoch + 1
        dtype = export_dtype(cfg.callbacks)
        export(algorithm.model.lm, encoder, run.folder, options.temperature, dtype)
        if cfg.callbacks.get("export_critic", True):
            say(console, export_critic(algorithm.model, encoder, run.folder, dtype))
        for tracker in trackers(loggers):
            tracker.log_model(run.folder)
    shown = 8 if console.is_terminal else 3
    drawings = [
        partial(samples_table, samples.latest, count=shown),
        partial(policy_summary, result),
    ]
    exported = {"export_precision": str(dtype).removeprefix("torch.")}
    return result | counts | chosen(algorithm) | exported, drawings


def say_start(
    pipeline: Pipeline, algorithm: PolicyModule, data: PromptDataModule, devices: int
) -> None:
    """What a person should know of a run before its first iteration."""
    console, encoder = pipeline.console, data.encoder
    cfg, model = pipeline.cfg, pipeline.language_model
    start = f"fine-tuned here on {cfg.data.name}" if model.embedded else model.pretrained
    table = start_table(
        algorithm,
        model=model.name,
        start=start,
        data=taught_words(pipeline.source),
        prompts=tuple(map(len, data.rows.values())),
        devices=devices,
        precision=pipeline.hardware.precision,
        stages={stage.name: stage for stage in pipeline.stages},
        changed=not_default(cfg),
    )
    console.print(table)
    say(console, chat_notes(encoder.format))
    say(console, reward_notes(pipeline.reward))
    say(console, what_was_cut(encoder.counts))
    say(console, training_notes(algorithm.model.lm))


def taught_words(source: Source) -> str:
    """What reward models learn from here."""
    more = f" and {len(source.added.feedback):,} rows of data.more" if source.added else ""
    return f"{source.name}{more}"


def watchers(
    pipeline: Pipeline, algorithm: PolicyModule, encoder: Encoder, done: int
) -> list[Callback]:
    """What looks at a run after its first `done` iterations, and changes nothing in it."""
    cfg, console, folder = pipeline.cfg, pipeline.console, pipeline.run.folder
    check = [SelfCheck(encoder, console, resumed=done > 0)] if cfg.selfcheck else []
    passes = partial(backward_passes, algorithm, sum(pipeline.limits.tokens))
    return [
        *check,
        TokenTrace(folder, cfg.callbacks.trace_every, encoder.tokenizer, done),
        PolicyBar(console, pipeline.plan, passes),
        EvaluationLines(console, pipeline.plan, "iteration", OF_POLICIES),
        Health(console, GLOSSARY),
    ]


def keep_best(metric: str | None) -> list[Callback]:
    """`callbacks.keep_best`: at whose best value the policy is exported; null: the last one."""
    if metric is None:
        return []
    return [KeepBest(metric, highest=metric not in ("val/kl", "val/kl_k3"))]
