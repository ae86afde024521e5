"""Where the language model of a run comes from: the hub, a folder, or a toy that is built here."""

from functools import lru_cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lightning_modules.errors import ModelError
from lightning_modules.models.loading import (
    check_attention,
    check_causal_lm,
    clear_errors,
    fetch_config,
    first_line,
    random_causal_lm,
)
from lightning_modules.models.parameters import parameter_counts
from lightning_modules.models.usable import positions, refuse_kind, require_positions
from lightning_modules.options.identities import pretrained_identity
from lightning_modules.options.models import LanguageModelOptions
from lightning_modules.options.remote_code import trusts


class LanguageModel(LanguageModelOptions):
    """A language model by its hub id or folder, or a toy by its config."""

    @property
    def embedded(self) -> bool:
        """Whether the model is a toy without weights of its own."""
        return self.pretrained is None

    def check(self, max_tokens: int) -> None:
        """Raise unless there is such a model and it takes sequences of `max_tokens` tokens.

        Cheap: it reads the config, the tokenizer, and names and shapes of weights.
        """
        if self.embedded:
            self.parameters()  # raises if its config makes no model
            config = self.config()
        else:
            config = check_causal_lm(self.pretrained, self.revision)
        require_positions(config, max_tokens, self.name)
        check_attention(config, self.attn_implementation, self.name)

    def positions(self) -> int | None:
        """How many tokens the model can read; None if there is no such limit."""
        if self.embedded:
            return positions(self.config())
        return positions(fetch_config(self.pretrained, self.revision))

    def parameters(self) -> int:
        """How many parameters the model has; a toy, with as many tokens as its vocabulary may have.
        Cheap: it reads the config alone.

        Raises ModelError if there is no such causal language model.
        """
        if not self.embedded:
            return _parameters(self.pretrained, self.revision)
        try:
            config = self.config(vocab_size=self.vocab_size, bos_token_id=None, eos_token_id=None)
            with torch.device("meta"):
                return parameter_counts(AutoModelForCausalLM.from_config(config))[0]
        except Exception as error:  # every architecture has its own
            raise ModelError(
                f"model.config: no model is made of it: {first_line(error)}"
            ) from error

    def skeleton(self, auto: Any = AutoModelForCausalLM) -> PreTrainedModel:
        """The model, or another one on its backbone, on the meta device: without weights."""
        config = self.config() if self.embedded else fetch_config(self.pretrained, self.revision)
        with clear_errors(self.name), torch.device("meta"):
            return auto.from_config(config, trust_remote_code=self.trust_remote_code)

    def build(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        """The toy with random weights."""
        config = self.config(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return random_causal_lm(config, seed, self.attn_implementation)

    def identity(self) -> dict[str, Any]:
        """What the weights depend on, for the fingerprint of a stage."""
        if self.embedded:
            config = self.config(vocab_size=self.vocab_size).to_dict()
            config.pop("transformers_version", None)
            return {"vocab_size": self.vocab_size, "config": config}
        return pretrained_identity(self.pretrained, self.revision)


@lru_cache
def _parameters(path: str, revision: str | None) -> int:
    """Parameters of the model that a config describes, without memory for one of them."""
    config = fetch_config(path, revision)
    refuse_kind(path, config)
    with clear_errors(path), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trusts(path))
        return parameter_counts(model)[0]
