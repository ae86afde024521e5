"""Tokenizers: trained on the data's own text, or loaded from a folder or the hub."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from datamodules.records import DataError
from datamodules.tokenization.templates import (
    EMBEDDED_TEMPLATE,
    SPECIAL_TOKENS,
    TURN_TOKENS,
    choose_template,
)

# What lies beside a folder model/ that this project wrote, every one with a chat template: the
# record of a run, and that of a stage.
RECORDS = ("run.json", "stage.json")


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens, learned from `texts`.

    Every text can be encoded, whatever it was trained on, and decoding gives it back unchanged.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [*SPECIAL_TOKENS.values(), *TURN_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL_TOKENS,
        extra_special_tokens=list(TURN_TOKENS),
        chat_template=EMBEDDED_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(
    path: str | Path,
    revision: str | None = None,
    template: str | None = None,
    *,
    has_option: bool = True,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the hub, with a chat template for sure: its own or another, as
    `template` says (see `choose_template`). Its own code, if it brings some, is run if it is
    trusted; nobody is asked. DataError if a model of this project has lost its template: with
    another it would be asked what it was never taught.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise DataError(
                f"{path}: its tokenizer brings code of its own (auto_map in tokenizer_config.json),"
                " which is not run; if you trust that code: model.trust_remote_code=true"
            ) from error
        raise DataError(
            f"{path}: has no tokenizer that can be read ({str(error).splitlines()[0]:.200}); a"
            " model's folder holds tokenizer.json and tokenizer_config.json beside its weights"
        ) from error
    if template is None and not tokenizer.chat_template and _is_ours(path):
        raise DataError(
            f"{path}: its chat template is missing, and it was written with one"
            " (chat_template.jinja, or a name in tokenizer_config.json): copy the folder again"
        )
    choose_template(tokenizer, template, str(path), has_option=has_option)
    return tokenizer


def _is_ours(path: str | Path) -> bool:
    """Whether a run or a stage of this project wrote this folder of a model."""
    folder = Path(path).resolve()
    return folder.name == "model" and any((folder.parent / name).is_file() for name in RECORDS)


def generation_stops(
    path: str | Path, revision: str | None = None, *, trust_remote_code: bool = False
) -> tuple[int, ...]:
    """The ids at which a model stops by what its generation config and its config say."""
    revision = revision or "main"
    config = AutoConfig.from_pretrained(
        path, revision=revision, trust_remote_code=trust_remote_code
    )
    configs = [config, config.get_text_config(decoder=True)]
    with suppress(OSError, ValueError):  # many models have none
        configs.append(GenerationConfig.from_pretrained(path, revision=revision))
    stops: set[int | None] = set()
    for each in configs:
        named = getattr(each, "eos_token_id", None)
        stops |= set(named) if isinstance(named, list | tuple) else {named}
    return tuple(sorted(stops - {None}))
