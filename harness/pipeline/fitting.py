"""Training SFT and reward models, as stages of a larger run or as a run of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from peft import TaskType
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from rich.console import Console
from torch import nn

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.micro_batches import SupervisedDataModule
from datamodules.preferences import PreferenceDataModule
from datamodules.tokenization.encoder import Encoder
from harness.checks.memory import size
from harness.checks.room import make_room_for_supervised
from harness.checks.supervised_pass import (
    check_hidden_states,
    check_log_probabilities,
    choose_shared_prompts,
    rows_like,
)
from harness.parts.hardware import make_trainer
from harness.parts.not_default import not_default
from harness.parts.parts import Parts
from harness.parts.score_scale import describe_scores
from harness.parts.thumbs_bias import first_bias
from harness.pipeline.keep_best import KeepBest
from harness.pipeline.keep_state import KeepState
from harness.pipeline.model_folder import export
from harness.progress.evaluations import OF_SUPERVISED, EvaluationLines
from harness.progress.supervised_bar import SupervisedBar
from harness.ranks import this_rank
from harness.reports.chat_notes import chat_notes
from harness.reports.console import say
from harness.reports.held_out_pairs import judge_held_out
from harness.reports.start_table import start_lines
from harness.tracking.curves import CurvesPicture
from harness.tracking.names import run_name
from harness.tracking.tracker import trackers
from lightning_modules.forward.checkpointing import is_checkpointed
from lightning_modules.forward.heads import compute_head_in_float32
from lightning_modules.forward.passes import plain
from lightning_modules.models.adapters import add_adapter, training_notes
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.one_base import BASE, base_digest
from lightning_modules.models.parameters import frozen
from lightning_modules.models.scalar import REWARD_CONFIG, THUMBS_BIAS, ScalarModel
from lightning_modules.models.scorers import new_scorer
from lightning_modules.reward_model import RewardModel
from lightning_modules.rewards.learned import Scorer
from lightning_modules.sft import SFT
from lightning_modules.supervised import SupervisedModule


def fit_sft(
    parts: Parts, module: SFT, folder: Path, loggers: list[Logger], **resume: Any
) -> dict[str, Any]:
    """Fine-tune the model on demonstrations; exports it to `folder` and returns a summary."""
    seed, language_model, encoder = parts.cfg.stage_seed, parts.language_model, parts.encoder
    options = module.options
    data = DemonstrationDataModule(
        parts.source, encoder, options.batch_size, options.micro_batch_tokens, seed
    )
    if language_model.embedded:
        model = language_model.build(encoder.tokenizer, seed)
        if parts.base.head_in_float32:
            compute_head_in_float32(model)
    else:
        model = load_causal_lm(
            language_model.pretrained, revision=language_model.revision, how=parts.base
        )
        check_log_probabilities(model, encoder, _rows(parts, encoder))
    if parts.lora and not language_model.embedded:
        model = add_adapter(model, parts.lora, TaskType.CAUSAL_LM, seed)
    say(parts.console, chat_notes(encoder.format))
    metrics = _fit(parts, module, model, data, loggers, **resume)
    export(model, encoder, folder)
    return metrics | dict(encoder.counts)


def fit_reward_model(
    parts: Parts,
    start: tuple[str | Path, str | None],
    module: RewardModel,
    folder: Path,
    loggers: list[Logger],
    **resume: Any,
) -> dict[str, Any]:
    """Fit a reward model on the language model `start` (folder or hub id, revision) to the
    preferences; exports it to `folder` with a report on it, and returns a summary.
    """
    seed, (path, revision), options = parts.cfg.stage_seed, start, module.options
    encoder = parts.load_encoder(path, revision)
    model = new_scorer(
        path,
        encoder.tokenizer,
        seed=seed,
        heads=options.ensemble,
        revision=revision,
        how=parts.base,
        stop_ids=encoder.stop_ids,
    )
    rows = _rows(parts, encoder)
    check_hidden_states(model, encoder, rows)
    notes = choose_shared_prompts(scalar := ScalarModel(model), encoder, rows)
    if parts.lora:
        scalar.model = model = add_adapter(model, parts.lora, TaskType.SEQ_CLS, seed)
    data = PreferenceDataModule(
        parts.source,
        encoder,
        options.batch_size,
        options.micro_batch_tokens,
        seed,
        options.ensemble,
    )
    if module.of_thumbs:
        thumbs = parts.source.thumbs("train")
        # Of several processes those besides the first take over what that one has.
        scalar.learn_thumbs_bias(
            first_bias(scalar, encoder, thumbs, parts.device) if this_rank() == 0 else 0.0
        )
    say(parts.console, [*chat_notes(encoder.format), *notes])
    metrics = _fit(parts, module, scalar, data, loggers, **resume)
    counts = dict(encoder.counts) | dict(data.counts) | dict(parts.source.counts)
    if this_rank() > 0:
        return metrics
    scorer = Scorer(frozen(scalar).to(parts.device), encoder)
    about = describe_scores(scorer, parts.source)
    if parts.lora:
        about[BASE] = base_digest(model)
    bias = None
    if module.of_thumbs:
        about[THUMBS_BIAS] = scalar.thumbs_bias.tolist()
        bias = float(scalar.thumbs_bias.double().mean())
    plain(model).config.update({REWARD_CONFIG: about})
    export(model, encoder, folder)
    report = judge_held_out(
        scorer.raw_heads,
        parts.source,
        folder,
        title=f"Reward model of {parts.language_model.name} on {parts.source.name}",
        left_out=counts,
        bias=bias,
    )
    if module.of_thumbs:
        report.pop("val/loss", None)  # of pairs alone, where training had one of both
    for tracker in trackers(loggers):
        tracker.log_report(folder, report)
    return metrics | report | counts


def _rows(parts: Parts, encoder: Encoder) -> list[list[int]]:
    """A few short rows of ids, for the checks of a model before it is fitted."""
    text = parts.source.prompts("train")[0].text
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"] or [encoder.stop_id]
    return rows_like(ids, encoder.max_prompt_tokens + encoder.max_response_tokens)


def _fit(
    parts: Parts,
    module: SupervisedModule,
    model: nn.Module,
    data: SupervisedDataModule,
    loggers: list[Logger],
    *,
    checkpoints: Path,
    resume_from: Path | None,
) -> dict[str, float]:
    module.bind(model, parts.cfg.stage_seed)
    is_run = module is parts.algorithm
    say(parts.console, start_lines(module, parts.language_model.name, parts.source))
    if is_run:
        say(parts.console, [f"not default: {', '.join(not_default(parts.cfg)) or 'nothing'}"])
    say(parts.console, training_notes(model.model if isinstance(model, ScalarModel) else model))
    # A stage is made by one process on one device; the others of a run wait for it.
    hardware = parts.hardware
    if not is_run:
        hardware = OmegaConf.merge(hardware, {"devices": 1, "strategy": "auto"})
    minutes = parts.cfg.callbacks.get("checkpoint_minutes")
    watchers = [
        SupervisedBar(parts.console, parts.plan),
        EvaluationLines(parts.console, parts.plan, "epoch", OF_SUPERVISED),
        CurvesPicture(run_name(parts.cfg, module.name)),
        KeepState(checkpoints, module.name, "step", minutes),
    ]
    return fit_supervised(
        module,
        data,
        hardware,
        loggers=loggers,
        callbacks=watchers,
        checkpoints=checkpoints,
        resume_from=resume_from,
        console=parts.console,
    )


def fit_supervised(
    module: SupervisedModule,
    data: SupervisedDataModule,
    hardware: DictConfig,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback] = (),
    checkpoints: Path,
    resume_from: Path | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Train, keep the best epoch, and return its metrics. A checkpoint to resume from is saved
    after every epoch.
    """
    best = KeepBest()
    saving = ModelCheckpoint(checkpoints, "epoch-{epoch:05d}", auto_insert_metric_name=False)
    trainer = make_trainer(
        hardware,
        max_epochs=module.options.epochs,
        logger=list(loggers),
        callbacks=[best, saving, *callbacks],
    )
    checkpointing = hardware.get("checkpointing", False)
    held = make_room_for_supervised(module, trainer, data, checkpointing)
    if console and is_checkpointed(module.model):
        say(console, ["  activations are computed again in the backward pass"])
    if console and (held or 0) > 2**30:
        say(console, [f"  a micro-batch holds about {size(held)}; less with fewer {module.limit}"])
    trainer.fit(
        module, datamodule=data, ckpt_path=resume_from, weights_only=True if resume_from else None
    )
    return best.metrics
