"""What a run is made of: algorithm, data, tokenizers, model, reward. No model is trained here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from peft import LoraConfig, TaskType
from rich.console import Console
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from datamodules.limits import Limits, fit_limits
from datamodules.records import DataError
from datamodules.sources.source import Split
from datamodules.tokenization.encoder import NO_LIMIT, Encoder
from datamodules.tokenization.loading import generation_stops, load_tokenizer, train_tokenizer
from datamodules.tokenization.templates import ChatOptions, ChatTemplate, keep_arguments, known
from harness.parts.choices import Choices
from harness.parts.hardware import (
    check_attention_runs,
    check_hardware,
    frozen_dtype,
    on_gpu,
    prepare_device,
    with_precision,
)
from harness.parts.judge import judge_encoder, judge_of
from harness.parts.rates import with_rates
from harness.parts.starts import (
    check_critic,
    check_policy,
    check_policy_adapter,
    critic_config,
    require_same_tokens,
)
from harness.progress.plan import Plan
from harness.ranks import this_rank
from harness.reports.console import say
from harness.runs.folder import Run, today
from lightning_modules.errors import OptionError
from lightning_modules.judges.judge import JudgeContext
from lightning_modules.models.adapters import check_adapter
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.models.loading import LoadOptions, fetch_config
from lightning_modules.models.scorers import check_new_scorer
from lightning_modules.models.usable import embedding_rows
from lightning_modules.options.paths import critic_folder, model_folder
from lightning_modules.options.policies import PolicyOptions
from lightning_modules.options.remote_code import trusts
from lightning_modules.options.require import require
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel


class Parts:
    """The parts of a run, built from what its config chooses.

    `run`, its folder, is there once it is opened; `plan` has no parts before that, and says
    nothing.
    """

    run: Run

    def __init__(self, choices: Choices, console: Console):
        self.cfg = cfg = choices.cfg
        self.source = choices.source
        self.origin = choices.origin
        self.started = choices.started
        self.console = console
        self.plan = Plan(console)
        check_hardware(cfg.hardware)
        prepare_device(cfg.hardware)
        self.language_model: LanguageModel = instantiate(cfg.model)
        self.hardware = with_precision(cfg.hardware, self.language_model)
        rated = with_rates(cfg, self.language_model)
        self.algorithm = _training("algo", rated.algo)
        self.stage_options = rated.stages
        self.stage_modules = {
            name: _training(f"stages.{name}", stage) for name, stage in rated.stages.items()
        }
        self.lora = _lora(cfg.adapter.config)
        # Whether reward model and critic may be adapters on the policy's weights.
        self.one_base = bool(self.lora and cfg.adapter.get("one_base"))
        self.reward = instantiate(cfg.reward)
        self.judge = judge_of(cfg)
        # How models are loaded: those that are not trained, and those that training changes or puts
        # adapters on.
        trained = LoadOptions(
            attention=self.language_model.attn_implementation,
            head_in_float32=cfg.hardware.get("head_precision") == "float32",
        )
        self.frozen = replace(trained, dtype=frozen_dtype(self.hardware))
        self.base = replace(self.frozen, **self._packing()) if self.lora else trained
        self._tried = False  # the chat template, on all prompts

    def _packing(self) -> dict[str, Any]:
        """Whether what adapters are on is packed in 4 bits, and on which device."""
        device = f"cuda:{this_rank()}" if on_gpu(self.cfg.hardware) else "cpu"
        return {"packed": self.cfg.adapter.get("bits") is not None, "device": device}

    def check_language_model(self) -> None:
        """Raise unless the language model exists, is complete, takes what the data may give it, has
        a tokenizer and a chat template to use, and carries a reward model or a critic where one is
        made of it.
        """
        model = self.language_model
        if model.trust_remote_code and not model.embedded:
            say(self.console, [f"{model.pretrained}: the code that comes with this model is run"])
        check_attention_runs(self.hardware, model.attn_implementation)
        model.check(self.source.least_tokens)
        if not model.embedded:
            template = self.load_unlimited(model.pretrained, model.revision).format.template
            require(
                self.cfg.model.get("date") is None or template.asks_clock,
                "model.date",
                self.cfg.model.get("date"),
                "the model's chat template asks for no date",
            )
        if self.lora:
            check_adapter(model.skeleton(), self.lora, TaskType.CAUSAL_LM)
        if isinstance(self.algorithm, RewardModel):
            self.check_scorer_base()
        elif isinstance(self.algorithm, PolicyModule):
            _check_starts(self, self.algorithm.options)

    def tokenizers(self, folder: str) -> Iterator[PreTrainedTokenizerBase]:
        """The policy's, and that of the model in `folder`."""
        own = self.language_model.pretrained, self.language_model.revision
        yield (self.load_unlimited(*own) if own[0] else self._unlimited).tokenizer
        yield self.load_unlimited(folder, None, player=True).tokenizer

    def check_conversations(self) -> None:
        """Try the language model's chat template on all prompts, before anything is trained."""
        model = self.language_model
        if model.embedded or self._tried:  # an embedded one's takes any
            return
        template = self.load_unlimited(model.pretrained, model.revision).format.template
        self.try_template(template, ("train", "val"))
        self._tried = True

    def try_template(self, template: ChatTemplate, splits: Sequence[Split]) -> None:
        """Prompts that a chat template refuses are an error with its place or, where the data are a
        public set, are left out and counted.
        """
        for split in splits:
            if refused := template.refused(self.source.prompts(split)):
                self.source.refuse(refused)
        if added := self.source.added:
            for prompt, reason in template.refused(list(added.places)).items():
                raise DataError(f"{added.places[prompt]}: {reason}")

    def check_scorer_base(self) -> None:
        """Raise unless a reward model can be made of the language model."""
        model = self.language_model
        if not model.embedded:
            check_new_scorer(model.pretrained, model.revision)
        if self.lora:
            scorer = model.skeleton(AutoModelForSequenceClassification)
            check_adapter(scorer, self.lora, TaskType.SEQ_CLS)

    @cached_property
    def encoder(self) -> Encoder:
        """The tokenizer of the policy, within the limits."""
        return self._unlimited.within(*self.limits.tokens)

    @cached_property
    def limits(self) -> Limits:
        """How many tokens prompts and responses may have. Asked for once the run is opened, whose
        date a chat template may write.
        """
        return fit_limits(self.source, self._unlimited, self.language_model.positions())

    @cached_property
    def _unlimited(self) -> Encoder:
        """The tokenizer of the policy: the toy's is trained here, a pretrained one is loaded."""
        model = self.language_model
        if not model.embedded:
            return self.load_unlimited(model.pretrained, model.revision)
        tokenizer = train_tokenizer(self.source.texts(), model.vocab_size)
        return Encoder(tokenizer, NO_LIMIT, NO_LIMIT, chat=self.chat)

    @property
    def chat(self) -> ChatOptions:
        """What is said of the model's chat template, and the date of this run."""
        options = self.cfg.model
        date = self.run.date if hasattr(self, "run") else today(self.cfg)
        if self.origin and self.origin.date:
            date = self.origin.date
        return ChatOptions(
            options.get("chat_template"),
            OmegaConf.to_container(options.get("template_arguments") or OmegaConf.create()),
            datetime.fromisoformat(date),
        )

    def load_encoder(
        self, path: str | Path, revision: str | None, *, player: bool = False
    ) -> Encoder:
        """The tokenizer of a model, from a folder or the hub, within the limits of this run."""
        return self.load_unlimited(path, revision, player=player).within(*self.limits.tokens)

    def load_unlimited(
        self, path: str | Path, revision: str | None, *, player: bool = False
    ) -> Encoder:
        """The tokenizer of a model, from a folder or the hub.

        `player`: it is one of two models, each of which gets those `model.template_arguments` that
        its template knows.
        """
        config, chat, chosen = fetch_config(path, revision), self.chat, True
        if player:
            chosen = self.has_the_options(path)
            chat = replace(chat, template=chat.template if chosen else None)
        trusted = trusts(path)
        tokenizer = load_tokenizer(
            path, revision, chat.template, has_option=chosen, trust_remote_code=trusted
        )
        try:
            if player:
                chat = replace(chat, arguments=known(tokenizer, chat.arguments))
            encoder = Encoder(
                tokenizer,
                NO_LIMIT,
                NO_LIMIT,
                chat=chat,
                stops=generation_stops(path, revision, trust_remote_code=trusted),
                rows=embedding_rows(config),
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        keep_arguments(tokenizer, chat.arguments)
        return encoder

    def has_the_options(self, path: str | Path) -> bool:
        """Whether this is the model that `model.chat_template` speaks of."""
        model = self.language_model
        return not model.embedded and model_folder(path) == model_folder(model.pretrained)

    def judge_context(self) -> JudgeContext:
        """What a judge may use."""
        return JudgeContext(
            folder=self.run.folder if hasattr(self, "run") else None,
            encoder=lambda path: judge_encoder(path, self.chat.date),
            how=self.frozen,
            device=self.device,
            say=lambda line: say(self.console, [line]),
        )

    @property
    def device(self) -> torch.device:
        """Where models that are only evaluated go."""
        return torch.device("cuda" if on_gpu(self.hardware) else "cpu")


def _check_starts(parts: Parts, options: PolicyOptions) -> None:
    """Raise unless policy and critic can begin as they are to."""
    model = parts.language_model
    if start := options.policy_from:
        check_policy(start, parts.source.least_tokens, parts.base.attention)
        require_same_tokens("algo.policy_from", start, *parts.tokenizers(model_folder(start)))
        if parts.lora:
            check_policy_adapter(start, model.skeleton(), parts.lora)
    if start := options.critic_from:
        config = critic_config(start)
        require_same_tokens("algo.critic_from", start, *parts.tokenizers(critic_folder(start)))
        check_critic(options, config, model.skeleton(), parts.lora)
    elif options.critic == "copy":
        parts.check_scorer_base()


def _training(place: str, config: DictConfig) -> Any:
    """What is trained at this place, in plain lists and dicts: optimisers write theirs into
    checkpoints. OptionError if its optimiser does not take what it is given.
    """
    module = instantiate(config, _convert_="all")
    try:
        module.options.optimizer([torch.zeros(1, requires_grad=True)])
    except Exception as error:  # every optimiser of a library has its own
        name = module.options.optimizer.func.__name__
        raise OptionError(f"{place}.optimizer: {name} does not take it: {error}") from error
    return module


def _lora(config: DictConfig | None) -> LoraConfig | None:
    """PEFT's options, in plain lists and dicts: it writes them as JSON in the end."""
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise OptionError(f"adapter.config: {error.__cause__ or error}") from error
