"""The options of a language model, checked as soon as they are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from lightning_modules.errors import OptionError
from lightning_modules.options.paths import model_folder
from lightning_modules.options.remote_code import trust
from lightning_modules.options.require import require


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions:
    """What conf/model/ sets.

    `pretrained` is a hub id or a folder, of a model or of a run. None means a toy that is built
    here: `config` is then a partial of a Hugging Face config class, and `vocab_size` the largest
    vocabulary that its tokenizer may learn. `lr` holds learning rates by task; None means that the
    number of parameters says. `chat_template` is the name of one of the tokenizer's templates or a
    file with one, `template_arguments` are passed to it, and `date` (2026-01-31) is what it is told
    when it asks; None: the day on which the run began. `trust_remote_code` lets code be run that
    comes with the model. `attn_implementation` is Transformers' name of the way in which attention
    is computed, for every model of the run; None: the one that it takes by itself.
    """

    name: str
    pretrained: str | None
    revision: str | None = None
    vocab_size: int | None = None
    config: Callable[..., Any] | None = None
    lr: Mapping[str, float | None] | None = None
    chat_template: str | None = None
    template_arguments: Mapping[str, Any] | None = None
    date: Any = None
    trust_remote_code: bool = False
    attn_implementation: str | None = None

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
            for option in ("chat_template", "template_arguments", "date"):
                value = getattr(self, option)
                rule = "is for pretrained models; the toy's template is made with its tokenizer"
                require(value is None, f"model.{option}", value, rule)
        else:
            object.__setattr__(self, "pretrained", model_folder(self.pretrained))
            if self.trust_remote_code:
                trust(self.pretrained)
        # A name with a slash is a kernel on the hub: code that is fetched and run.
        require(
            self.attn_implementation is None or self.attn_implementation.isidentifier(),
            "model.attn_implementation",
            self.attn_implementation,
            "must be eager, sdpa, flex_attention, flash_attention_2 or another name that"
            " Transformers has, or null",
        )
        require(
            self.template_arguments is None or isinstance(self.template_arguments, Mapping),
            "model.template_arguments",
            self.template_arguments,
            "must be {name: value, ...}, such as {enable_thinking: false}",
        )
        try:
            date.fromisoformat(self.date or "2026-01-31")
        except (TypeError, ValueError):
            require(False, "model.date", self.date, "must be a date, such as 2026-01-31")
