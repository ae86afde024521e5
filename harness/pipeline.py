"""The parts of a run: data, models, and the stages that make those which do not exist yet."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from peft import TaskType
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from torch import nn
from transformers import PreTrainedTokenizerBase

import datamodules
import lightning_modules
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.preferences import PreferenceDataModule
from datamodules.sources.source import Source
from datamodules.tokenization import Encoder, load_tokenizer, train_tokenizer
from harness.callbacks import ProgressBar
from harness.console import stage_line
from harness.errors import RunError
from harness.export import export
from harness.judging import describe_scores, judge, scoring_encoder
from harness.metrics_csv import MetricsCsv
from harness.run_names import default_group, run_name, swept_overrides
from harness.runs import Run
from harness.stages import Stage, StageCache, code_identity
from harness.supervised import fit_supervised
from harness.tracking import WandbRun, log_report
from harness.trainer import check_hardware, frozen_dtype, on_gpu, precision
from lightning_modules.actor_critic import (
    REWARD_CONFIG,
    ActorCritic,
    Reference,
    ScalarModel,
    plain,
)
from lightning_modules.backbone import (
    VALUE_ADAPTER,
    Backbone,
    add_adapter,
    add_value_adapter,
    frozen,
    load_causal_lm,
    load_scorer,
    new_scorer,
    new_value_head,
    pretrained_identity,
)
from lightning_modules.options import require
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel
from lightning_modules.rewards.learned import LearnedReward, Scorer
from lightning_modules.rewards.reward import RewardContext
from lightning_modules.sft import SFT
from lightning_modules.supervised import SupervisedModule

# The code that a stage's result depends on; a change of any other file does not retrain it.
STAGE_CODE = [
    *Path(datamodules.__path__[0]).rglob("*.py"),
    *Path(lightning_modules.__path__[0], "objectives").glob("*.py"),
    *(
        Path(lightning_modules.__path__[0], f"{name}.py")
        for name in (
            "actor_critic",
            "backbone",
            "intervals",
            "manual",
            "preference_metrics",
            "reward_model",
            "rewards/learned",
            "sft",
            "supervised",
        )
    ),
    Path(__file__).with_name("judging.py"),  # what an export says of its scores
]
LIBRARIES = ("torch", "transformers", "tokenizers", "pytorch-lightning", "peft")


class Pipeline:
    """Builds what a run needs from its config. Constructing it checks every option and reads the
    data, but trains nothing.
    """

    def __init__(self, cfg: DictConfig, console: Console):
        if missing := sorted(OmegaConf.missing_keys(cfg)):
            raise RunError("; ".join(f"{key} has no value: give {key}=..." for key in missing))
        self.cfg = cfg
        self.console = console
        check_hardware(cfg.hardware)
        self.algorithm = instantiate(cfg.algo)
        self.stage_modules = {name: instantiate(stage) for name, stage in cfg.stages.items()}
        self.backbone: Backbone = instantiate(cfg.model)
        self.lora = instantiate(cfg.adapter.config)
        self.reward = instantiate(cfg.reward)
        # `suits` is for the algorithms, which have read it already.
        kept = [key for key in cfg.data if key != "suits"]
        self.source: Source = instantiate(OmegaConf.masked_copy(cfg.data, kept))
        if isinstance(self.algorithm, PolicyModule):
            require(
                self.algorithm.options.critic != "adapter" or self.lora is not None,
                "algo.critic",
                "adapter",
                "needs adapter=lora: it is a second adapter on the policy's trunk",
            )
        self.cache = StageCache(Path(cfg.cache_dir))
        self.stages: list[Stage] = []
        self.dtype = frozen_dtype(cfg.hardware)
        self.reward.check(self.reward_context())

    def check_backbone(self) -> None:
        """Raise unless the language model exists and takes what the data may give it."""
        self.backbone.check(self.source.max_prompt_tokens + self.source.max_response_tokens)

    # -- text and tokens ------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> Encoder:
        """The tokenizer of the policy: the toy's is trained here, a pretrained one is loaded."""
        if self.backbone.embedded:
            tokenizer = train_tokenizer(self.source.texts(), self.backbone.vocab_size)
        else:
            tokenizer = load_tokenizer(self.backbone.pretrained, self.backbone.revision)
        return self.make_encoder(tokenizer)

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """A tokenizer with the limits of this data."""
        return Encoder(tokenizer, self.source.max_prompt_tokens, self.source.max_response_tokens)

    def reward_context(self) -> RewardContext:
        """What a reward may use."""
        return RewardContext(
            reward_model=lambda: self.reward_model() / "model",
            gold=self.source.gold,
            encoder=scoring_encoder,
            dtype=self.dtype,
        )

    # -- stages ---------------------------------------------------------------------------------

    def reference(self) -> tuple[str | Path, str | None]:
        """Folder or hub id of the reference, and its revision."""
        if not self.backbone.embedded:
            return self.backbone.pretrained, self.backbone.revision
        stage = self._stage("sft", self._recipe("sft"), self.fit_sft)
        return stage.path / "model", None

    def reward_model(self) -> Path:
        """Folder of the reward model trained on this data from this reference."""
        path, revision = self.reference()
        recipe = self._recipe("reward_model") | {
            "reference": path.parent.name
            if self.backbone.embedded
            else pretrained_identity(path, revision),
            "adapter": OmegaConf.to_container(self.cfg.adapter, resolve=True),
        }
        return self._stage("reward_model", recipe, self.fit_reward_model).path

    def _recipe(self, name: str) -> dict[str, Any]:
        """Everything that shapes a stage's result."""
        return {
            "data": self.source.identity(),
            "max_prompt_tokens": self.source.max_prompt_tokens,
            "max_response_tokens": self.source.max_response_tokens,
            "overlong": self.source.overlong,
            "model": self.backbone.identity(),
            "training": OmegaConf.to_container(self.cfg.stages[name], resolve=True),
            "seed": self.cfg.stage_seed,
            "precision": precision(self.cfg.hardware),
            "code": code_identity(STAGE_CODE),
            "versions": {name: version(name) for name in LIBRARIES},
            "machine": platform.machine(),
        }

    def _stage(self, name: str, recipe: dict[str, Any], fit: Callable) -> Stage:
        done = next((stage for stage in self.stages if stage.name == name), None)
        if done:
            return done

        def make(folder: Path) -> dict[str, Any]:
            with self.tracked(folder, job_type=name) as loggers:
                return fit(self.stage_modules[name], folder, loggers)

        announce = partial(self.console.print, highlight=False)
        stage = self.cache.get(name, recipe, make, announce)
        self.stages.append(stage)
        self.console.print(stage_line(stage), highlight=False, soft_wrap=True)
        return stage

    # -- supervised training ----------------------------------------------------------------------

    def fit_sft(self, module: SFT, folder: Path, loggers: list[Logger], **resume: Any) -> dict:
        """Fine-tune the model on demonstrations; exports it to `folder` and returns a summary."""
        seed = self.cfg.stage_seed
        data = DemonstrationDataModule(
            self.source, self.encoder, module.batch_size, module.micro_batch_tokens, seed
        )
        if self.backbone.embedded:
            model = self.backbone.build(self.encoder.tokenizer, seed)
        else:
            dtype = self.dtype if self.lora else torch.float32
            model = load_causal_lm(
                self.backbone.pretrained, revision=self.backbone.revision, dtype=dtype
            )
        if self.lora and not self.backbone.embedded:
            model = add_adapter(model, self.lora, TaskType.CAUSAL_LM, seed)
        metrics = self._fit(module, model, data, loggers, **resume)
        export(model, self.encoder.tokenizer, folder)
        return metrics | dict(self.encoder.counts)

    def fit_reward_model(
        self, module: RewardModel, folder: Path, loggers: list[Logger], **resume: Any
    ) -> dict:
        """Fit a reward model to the preferences; exports it to `folder` with a report on it, and
        returns a summary.
        """
        seed = self.cfg.stage_seed
        path, revision = self.reference()
        encoder = self.make_encoder(load_tokenizer(path, revision))
        model = new_scorer(
            path,
            encoder.tokenizer,
            seed=seed,
            heads=module.ensemble,
            revision=revision,
            dtype=self.dtype if self.lora else torch.float32,
        )
        if self.lora:
            model = add_adapter(model, self.lora, TaskType.SEQ_CLS, seed)
        data = PreferenceDataModule(
            self.source,
            encoder,
            module.batch_size,
            module.micro_batch_tokens,
            seed,
            module.ensemble,
        )
        scalar = ScalarModel(model)
        metrics = self._fit(module, scalar, data, loggers, **resume)
        counts = dict(encoder.counts) | dict(data.counts) | dict(self.source.counts)
        if rank_zero_only.rank > 0:
            return metrics
        scorer = Scorer(frozen(scalar).to(self.device), encoder)
        plain(model).config.update({REWARD_CONFIG: describe_scores(scorer, self.source)})
        export(model, encoder.tokenizer, folder)
        report = judge(
            scorer.raw_heads,
            self.source.preferences("val"),
            folder,
            title=f"Reward model of {self.backbone.name} on {self.source.name}",
            left_out=counts,
        )
        log_report(loggers, folder, report)
        return metrics | report | counts

    def _fit(
        self, module: SupervisedModule, model, data, loggers: list[Logger], **resume: Any
    ) -> dict[str, float]:
        module.bind(model, self.lr_multiplier)
        bar = ProgressBar(
            self.console, module.name, lambda trainer: trainer.estimated_stepping_batches
        )
        # A stage is made by one process on one device; the others of a run wait for it.
        hardware = self.cfg.hardware
        if module is not self.algorithm:
            hardware = OmegaConf.merge(hardware, {"devices": 1, "strategy": "auto"})
        return fit_supervised(module, data, hardware, loggers=loggers, callbacks=[bar], **resume)

    # -- models for a policy ----------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where models that are only evaluated go."""
        return torch.device("cuda" if on_gpu(self.cfg.hardware) else "cpu")

    @property
    def lr_multiplier(self) -> float:
        return self.cfg.adapter.lr_multiplier if self.lora else 1.0

    def actor_critic(self, critic: str | None, seed: int) -> tuple[ActorCritic, Reference]:
        """The policy, started from the reference, with the critic that the algorithm wants."""
        path, revision = self.reference()
        load = partial(load_causal_lm, path, revision=revision)
        if self.lora:
            lm = add_adapter(load(dtype=self.dtype), self.lora, TaskType.CAUSAL_LM, seed)
            reference = Reference(lm, shares_policy=True)
        else:
            lm = load(dtype=torch.float32)
            reference = Reference(frozen(load(dtype=self.dtype)), shares_policy=False)
        if critic == "adapter":
            add_value_adapter(lm, self.lora, seed + 1)
            model = ActorCritic(lm, new_value_head(lm), value_adapter=VALUE_ADAPTER)
        elif critic == "head":
            model = ActorCritic(lm, new_value_head(lm))
        elif critic == "copy":
            # In the units of the reward, whose weights it may start from.
            normalised = getattr(self.reward, "normalise", True)
            critic_model = ScalarModel(self._critic_copy(seed), normalised=normalised)
            model = ActorCritic(lm, critic=critic_model)
        else:
            model = ActorCritic(lm)
        return model, reference

    def _critic_copy(self, seed: int) -> nn.Module:
        """A value network of its own: the reward model's weights if there is one, else the
        reference's.
        """
        dtype = self.dtype if self.lora else torch.float32
        if isinstance(self.reward, LearnedReward):
            model = load_scorer(self.reward_model() / "model", dtype=dtype)
        else:
            path, revision = self.reference()
            tokenizer = load_tokenizer(path, revision)
            model = new_scorer(path, tokenizer, seed=seed, revision=revision, dtype=dtype)
        return add_adapter(model, self.lora, TaskType.SEQ_CLS, seed) if self.lora else model

    # -- tracking ---------------------------------------------------------------------------------

    @contextmanager
    def tracked(
        self, folder: Path, job_type: str, *, run: Run | None = None, keep_steps: int = 0
    ) -> Iterator[list[Logger]]:
        """Loggers for one training: metrics.csv in `folder`, and a W&B run of its own that is
        finished whatever happens. `run` is given for the main job, whose W&B run can be resumed.
        """
        if rank_zero_only.rank > 0:
            yield []
            return
        loggers: list[Logger] = [MetricsCsv(folder / "metrics.csv", keep_steps)]
        if "_target_" in self.cfg.logger:
            make = instantiate(self.cfg.logger, _partial_=True)
            loggers.append(
                make(
                    # Offline files of a stage stay with the run: its folder is renamed later.
                    folder=self.run.folder,
                    run_name=run_name(
                        self.run.config,
                        job_type,
                        swept_overrides(self.run.folder) if run else (),
                    ),
                    job_type=job_type,
                    run_id=run.wandb_id if run else None,
                    default_group=default_group(self.run.folder),
                    x_axis="rollout/episodes"
                    if isinstance(self.algorithm, PolicyModule) and job_type == self.algorithm.name
                    else None,
                    config=self.run.config,
                )
            )
        try:
            yield loggers
        finally:
            for logger in loggers:
                if isinstance(logger, WandbRun):
                    logger.experiment.finish()
