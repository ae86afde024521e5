"""Tokenizers: trained on the data's own text, or loaded from a folder or the hub."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from datamodules.records import DataError
from datamodules.tokenization.templates import (
    EMBEDDED_TEMPLATE,
    PLAIN_TEMPLATE,
    SPECIAL_TOKENS,
    TURN_TOKENS,
)


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


def load_tokenizer(path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the hub, with a chat template and a padding token for sure.

    The padding token may be the stop token: nothing here tells them apart by id.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
    if tokenizer.eos_token_id is None:
        raise DataError(f"{path}: its tokenizer has no EOS token, so no response could ever end")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
