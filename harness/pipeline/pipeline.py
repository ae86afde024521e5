"""The parts of a run, and the stages that make those which do not exist yet."""

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from datamodules.records import Prompt
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.templates import Refused
from harness.checks.plain_pass import check_model
from harness.checks.selfcheck import BFLOAT16_TOLERANCE, FLOAT32_TOLERANCE
from harness.errors import RunError
from harness.parts.choices import Choices
from harness.parts.parts import Parts
from harness.parts.recipes import recipe
from harness.parts.score_scale import scoring_encoder
from harness.pipeline.fitting import fit_reward_model, fit_sft
from harness.reports.console import say, stage_line
from harness.reports.plain_console import PlainConsole
from harness.runs.checkpoints import steps_done, take_newest
from harness.runs.stages import CHECKPOINTS, Stage, StageCache, fingerprint
from harness.runs.used_stages import LINKS, REFERENCE, Lost
from harness.signals import remember
from harness.tracking.loggers import tracked
from harness.tracking.whole_rows import metrics_rows
from lightning_modules.models.loading import LoadOptions, load_causal_lm
from lightning_modules.models.parameters import frozen
from lightning_modules.options.identities import pretrained_identity
from lightning_modules.options.remote_code import trust
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import RewardContext
from lightning_modules.rollouts.reference_responses import ReferenceResponses


class Pipeline(Parts):
    """Parts and stages. Constructing it checks the reward too, but trains nothing; `reference` and
    `reward_model` train what is not in the cache, at the first call.
    """

    def __init__(self, choices: Choices, console: PlainConsole):
        super().__init__(choices, console)
        self.cache = StageCache(Path(os.path.expanduser(self.cfg.cache_dir)))
        self.stages: list[Stage] = []
        # To be had once there is a reference, of those who sample from it.
        self.reference_responses: ReferenceResponses | None = None
        # An SFT or a reward model of its own is trained without a reward; an evaluation needs one.
        if isinstance(self.algorithm, PolicyModule) or "policy" in self.cfg:
            self.reward.check(self.reward_context())

    def reward_context(self) -> RewardContext:
        """What a reward may use."""
        return RewardContext(
            reward_model=lambda: self.reward_model() / "model",
            gold=self.source.gold,
            encoder=lambda path: scoring_encoder(path, self.chat.date),
            frozen=self.frozen,
            check_reward_model=self.check_reward_model,
            folder=lambda: self.run.folder,
            judge=self.judge,
            judging=self.judge_context,
            reference_responses=lambda prompts: self.reference_responses(prompts),
            say=lambda line: say(self.console, [line]),
        )

    def check_reward_model(self) -> None:
        """Raise unless a reward model can be trained on this language model, and on these data."""
        self.source.require_feedback()
        self.check_language_model()
        self.check_scorer_base()
        self.check_conversations()

    def reference(self) -> tuple[str | Path, str | None]:
        """Folder or hub id of the reference, and its revision."""
        if not self.language_model.embedded:
            path = self.language_model.pretrained
            if Path(path).is_dir():
                self.run.link(REFERENCE, Path(path))
            return path, self.language_model.revision
        return self._stage("sft", partial(fit_sft, self)).path / "model", None

    def reward_model(self) -> Path:
        """Folder of the reward model trained on this data from this reference."""
        # The reference is made before the reward model, unless that is there.
        start = self._of_origin("reward_model") or self.reference()
        stage = self._stage("reward_model", partial(self._fit_reward_model, start))
        if self.language_model.trust_remote_code:  # the model's code is saved with it
            trust(stage.path / "model")
        return stage.path

    def _kept(self, name: str, folder: Path) -> Path | None:
        """From where an unfinished stage goes on; what cannot be read is dropped with a word."""
        try:
            checkpoint, notes = take_newest(folder / CHECKPOINTS)
            rows = metrics_rows(folder / "metrics.csv").last_step if checkpoint else 0
            if rows < steps_done(checkpoint):
                raise RunError(f"{folder / 'metrics.csv'}: ends with step {rows}")
        except RunError as error:
            checkpoint, notes = None, [f"{error}; the training begins anew"]
            shutil.rmtree(folder)
            folder.mkdir()
        say(self.console, [f"{name}: {note}" for note in notes])
        if checkpoint:
            done = f"{name}: goes on after step {steps_done(checkpoint)}, kept by an earlier run"
            self.console.print(done)
        return checkpoint

    def _fit_reward_model(
        self, start: tuple[str | Path, str | None], *args: Any, **resume: Any
    ) -> dict[str, Any]:
        """Train it; for a policy that could not be sampled from it would be in vain."""
        if (
            self.cfg.selfcheck
            and not self.language_model.embedded
            and isinstance(self.algorithm, PolicyModule)
        ):
            prompts = self.source.prompts("train")
            how = self.base if self.lora else self.frozen
            self.check_sampling(*start, self.load_encoder(*start), prompts, how)
        return fit_reward_model(self, start, *args, **resume)

    def check_sampling(
        self,
        path: str | Path,
        revision: str | None,
        encoder: Encoder,
        prompts: Sequence[Prompt],
        how: LoadOptions,
    ) -> None:
        """Raise CheckError if the sampler does not draw what the model says after `prompts`."""
        lm = frozen(load_causal_lm(path, revision=revision, how=how)).to(self.device)
        coarse = how.dtype != torch.float32
        tolerance = BFLOAT16_TOLERANCE if coarse else FLOAT32_TOLERANCE
        check_model(lm, encoder, prompts, tolerance, coarse)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise unless the reward can read all these prompts; those that its chat template refuses
        are left out where the data are a public set. Nothing is trained or loaded.
        """
        context = self.reward_context()
        try:
            self.reward.check_prompts(context, prompts)
        except Refused:
            # One by one, with the tokenizer of each reward loaded once.
            context = replace(context, encoder=functools.cache(context.encoder))
            self.source.refuse(self._refused(context, prompts))

    def _refused(self, context: RewardContext, prompts: Sequence[Prompt]) -> dict[Prompt, str]:
        """The prompts that a reward's chat template refuses, and why."""
        found = {}
        for prompt in prompts:
            try:
                self.reward.check_prompts(context, [prompt])
            except Refused as error:
                found[prompt] = str(error)
        return found

    def is_made(self, name: str) -> bool:
        """Whether this stage is there: in the cache, or as the run of this config has used it."""
        return self._of_origin(name) is not None or self.cache.has(name, self._shaped_by(name))

    def _shaped_by(self, name: str) -> dict[str, Any]:
        """Everything that shapes a stage, the one before it included."""
        shaped_by = recipe(self, name)
        if name == "sft":
            return shaped_by
        model = self.language_model
        return shaped_by | {
            "reference": self._mark("sft")
            if model.embedded
            else pretrained_identity(model.pretrained, model.revision),
            "adapter": OmegaConf.to_container(self.cfg.adapter.config, resolve=True)
            if self.lora
            else None,
        }

    def _mark(self, name: str) -> str:
        """The fingerprint of a stage."""
        known = self._of_origin(name)
        return known.path.name if known else fingerprint(self._shaped_by(name))

    def _of_origin(self, name: str) -> Stage | None:
        return self.origin.stages.get(name) if self.origin else None

    def _stage(self, name: str, fit: Callable) -> Stage:
        done = next((stage for stage in self.stages if stage.name == name), None)
        if done:
            return done

        mark = self._mark(name)
        if self.origin and (lost := self.origin.lost.get(name)):
            self._tell_of(lost, mark)
        self.run.require_stage(name, mark)

        def make(folder: Path) -> dict[str, Any]:
            self.plan.begin(name)
            checkpoint = self._kept(name, folder)
            done = steps_done(checkpoint)
            with tracked(self.cfg, self.run, folder, name, keep_steps=done) as loggers:
                return fit(
                    self.stage_modules[name],
                    folder,
                    loggers,
                    checkpoints=folder / CHECKPOINTS,
                    resume_from=checkpoint,
                )

        stage = self._of_origin(name) or self.cache.get(
            name, self._shaped_by(name), make, self.console.print
        )
        remember(None)
        self.run.link(LINKS[name], stage.path)
        self.stages.append(stage)
        if stage.reused:
            self.plan.reuse(name)
        made, *details = stage_line(stage).split("\n")
        self.console.tell(made)
        for detail in details:
            self.console.print(detail)
        return stage

    def _tell_of(self, lost: Lost, mark: str) -> None:
        """Say that a stage is made in the place of a lost one; RunError if that will not do."""
        other = lost.mark != mark
        why = f"as code, libraries or machine are not what they were, it would be another ({mark})"
        if other and self.origin.exact:
            raise RunError(f"{lost.told}; but {why}")
        say(self.console, [lost.told + f"; {why}" * other])
