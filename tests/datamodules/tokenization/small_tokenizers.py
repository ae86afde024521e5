"""Tokenizers of a few hundred tokens that behave as those of real models do.

Byte-level BPE (GPT-2, Llama 3, Qwen, ...), sentencepiece-like BPE with byte fallback (Llama 2,
Mistral, Gemma, Phi-3, ...) and Unigram (XGLM). All are trained, so that they have tokens of several
letters: where a text is cut into two before it is encoded makes a difference.
"""

import json
from collections.abc import Sequence
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "The user asks a question, and the assistant of the system answers it as well as it can.",
    "user: Where is the river?\n\nassistant: The river is behind the old mill.\n\n",
    "<|user|>\nWhat is the answer?\n<|assistant|>\nThat is a good question.\n\n",
    "system\n\nToday is a day of the week.\nuser\nHi\nmodel\nHello there.\n",
    "[INST] What is it? [/INST] It is a question. ### assistant\n",
    "USER: What now? ASSISTANT: Now we wait, and then we see.",
    "In the valley a river ran   slowly,  and the wind ran over the water.\n\n\n",
]
# Words and line feeds as newer byte-level tokenizers split them: line feeds stay together and cling
# to the punctuation before them.
WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@cache
def _learned(kind: str, vocab_size: int = 420) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE: "words", "gpt2" (both of bytes) or "sentencepiece"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = {
        "words": _words,
        "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
        "sentencepiece": lambda: pre_tokenizers.Metaspace(prepend_scheme="always"),
    }[kind]()
    alphabet = [] if kind == "sentencepiece" else sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size if alphabet else vocab_size - 256,
        initial_alphabet=alphabet,
        limit_alphabet=256 if alphabet else 60,
        show_progress=False,
    )
    texts = TEXTS if alphabet else [text.replace("\n", " ") for text in TEXTS]
    tokenizer.train_from_iterator(texts * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level(
    added: Sequence[str | AddedToken], *, split: str = "words", nfc: bool = False, **names
) -> PreTrainedTokenizerFast:
    """Byte-level BPE; `added` are its special tokens (AddedToken for those that are not).

    `names`: as of `_wrapped`. With `nfc` it composes characters, as Qwen's does.
    """
    vocab, merges = _learned(split)
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges)))
    tokenizer.pre_tokenizer = (
        _words() if split == "words" else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    return _wrapped(tokenizer, added, **names)


def sentencepiece_like(
    added: Sequence[str | AddedToken], *, prefix: str = "first", **names
) -> PreTrainedTokenizerFast:
    """BPE whose spaces are "▁", with bytes for what it does not know.

    `prefix` says where it writes a space that the text does not have: before the text's "first"
    word (Mistral); before "every" stretch between special tokens (Llama 2, by its normaliser);
    "never" (Gemma). `names`: as of `_wrapped`.
    """
    pieces, merges = _learned("sentencepiece")
    tokens = [token if isinstance(token, str) else token.content for token in added]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*tokens, *bytes_, *pieces]))}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=list(merges), byte_fallback=True, unk_token="<unk>")
    )
    readable = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        spaces = [normalizers.Replace(" ", "▁")]
        prepended = [normalizers.Prepend("▁")] if prefix == "every" else []
        tokenizer.normalizer = normalizers.Sequence([*prepended, *spaces])
    if prefix != "never":
        readable.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(readable)
    return _wrapped(tokenizer, added, **names)


@cache
def _pieces() -> list[tuple[str, float]]:
    """The pieces of a Unigram model and their log-probabilities; the first is the unknown one."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in TEXTS] * 3, trainer)
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


def unigram(added: Sequence[str | AddedToken], **names) -> PreTrainedTokenizerFast:
    """A Unigram model with bytes for what it does not know, as XGLM's kind has it: the text and
    what follows a special token begin with a space that the text does not have.
    """
    pieces = [*_pieces(), *((f"<0x{i:02X}>", -20.0) for i in range(256))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _wrapped(tokenizer, added, **names)


def _wrapped(
    tokenizer: Tokenizer,
    added: Sequence[str | AddedToken],
    *,
    puts_first: str | None = None,
    puts_last: str | None = None,
    **names: str,
) -> PreTrainedTokenizerFast:
    """As Transformers holds it. `puts_first` and `puts_last` are tokens that it adds to any text by
    itself; `names` are eos_token, bos_token, pad_token and the like.
    """
    tokenizer.add_tokens(
        [AddedToken(t, special=True, normalized=False) if isinstance(t, str) else t for t in added]
    )
    around = [token for token in (puts_first, puts_last) if token]
    if around:
        single = " ".join(filter(None, [puts_first, "$A", puts_last]))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single,
            pair=f"{single} $B:1",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names
    )
