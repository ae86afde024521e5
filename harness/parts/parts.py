"""What a run is made of: algorithm, data, tokenizers, model, reward. No model is trained here."""

from functools import cached_property

import torch
from hydra.utils import instantiate
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from harness.parts.choices import Choices
from harness.parts.hardware import check_hardware, frozen_dtype, on_gpu, prepare_device
from harness.runs.folder import Run
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.models.scorers import check_new_scorer
from lightning_modules.policy import PolicyModule
from lightning_modules.reward_model import RewardModel


class Parts:
    """The parts of a run, built from what its config chooses.

    `run`, its folder, is there once it is opened.
    """

    run: Run

    def __init__(self, choices: Choices, console: Console):
        self.cfg = cfg = choices.cfg
        self.source = choices.source
        self.console = console
        check_hardware(cfg.hardware)
        prepare_device(cfg.hardware)
        self.algorithm = instantiate(cfg.algo)
        self.stage_modules = {name: instantiate(stage) for name, stage in cfg.stages.items()}
        self.language_model: LanguageModel = instantiate(cfg.model)
        self.lora = instantiate(cfg.adapter.config)
        self.reward = instantiate(cfg.reward)
        self.dtype = frozen_dtype(cfg.hardware)

    def check_language_model(self) -> None:
        """Raise unless the language model exists, is complete, takes what the data may give it, and
        carries a reward model or a critic where one is made of it.
        """
        self.language_model.check(self.source.max_prompt_tokens + self.source.max_response_tokens)
        critic = isinstance(self.algorithm, PolicyModule) and self.algorithm.options.critic
        if isinstance(self.algorithm, RewardModel) or critic == "copy":
            self.check_scorer_base()

    def check_scorer_base(self) -> None:
        """Raise unless a reward model can be made of the language model."""
        if not self.language_model.embedded:
            check_new_scorer(self.language_model.pretrained, self.language_model.revision)

    @cached_property
    def encoder(self) -> Encoder:
        """The tokenizer of the policy: the toy's is trained here, a pretrained one is loaded."""
        if self.language_model.embedded:
            tokenizer = train_tokenizer(self.source.texts(), self.language_model.vocab_size)
        else:
            tokenizer = load_tokenizer(self.language_model.pretrained, self.language_model.revision)
        return self.make_encoder(tokenizer)

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """A tokenizer with the limits of this data."""
        return Encoder(tokenizer, self.source.max_prompt_tokens, self.source.max_response_tokens)

    @property
    def device(self) -> torch.device:
        """Where models that are only evaluated go."""
        return torch.device("cuda" if on_gpu(self.cfg.hardware) else "cpu")

    @property
    def lr_multiplier(self) -> float:
        """What learning rates are multiplied by: more than 1 where adapters are trained."""
        return self.cfg.adapter.lr_multiplier if self.lora else 1.0
