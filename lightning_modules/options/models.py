"""The options of a language model, checked as soon as they are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_modules.errors import OptionError
from lightning_modules.options.paths import model_folder
from lightning_modules.options.require import require


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions:
    """What conf/model/ sets.

    `pretrained` is a hub id or a folder, of a model or of a run. None means a toy that is built
    here: `config` is then a partial of a Hugging Face config class, and `vocab_size` the largest
    vocabulary that its tokenizer may learn. `lr` holds learning rates that suit the size, by task.
    """

    name: str
    pretrained: str | None
    revision: str | None = None
    vocab_size: int | None = None
    config: Callable[..., Any] | None = None
    lr: Mapping[str, float] | None = None

    def __post_init__(self):
        if self.pretrained is None and self.config is None:
            raise OptionError("model.pretrained is missing: give a hub id or a folder")
        if self.pretrained is None:
            require(
                self.vocab_size is not None and self.vocab_size >= 300,
                "model.vocab_size",
                self.vocab_size,
                "must be at least 300 (256 bytes and the special tokens)",
            )
        else:
            object.__setattr__(self, "pretrained", model_folder(self.pretrained))
