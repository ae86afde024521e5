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
from harness.parts.rates import with_rates
from harness.runs.folder import Run
from lightning_modules.models.language_model import LanguageModel


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
        self.language_model: LanguageModel = instantiate(cfg.model)
        trained = with_rates(cfg, self.language_model)
        self.algorithm = instantiate(trained.algo)
        self.stage_options = trained.stages
        self.stage_modules = {name: instantiate(stage) for name, stage in trained.stages.items()}
        self.lora = instantiate(cfg.adapter.config)
        self.reward = instantiate(cfg.reward)
        self.dtype = frozen_dtype(cfg.hardware)

    def check_language_model(self) -> None:
        """Raise unless the language model exists and takes what the data may give it."""
        self.language_model.check(self.source.max_prompt_tokens + self.source.max_response_tokens)

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
