"""Token ids of a tokenizer beside those of its model: neither may know ids that the other lacks.

Models often have more rows of logits than their tokenizer has tokens (a size that hardware likes).
What stands behind such an id is no text, so it must never be drawn. A hook gives these ids
probability 0 in whatever the model says, so that sampler, update and reference agree.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lightning_modules.errors import ModelError
from lightning_modules.forward.heads import IMPOSSIBLE
from lightning_modules.forward.passes import plain
from lightning_modules.options.remote_code import trusts

# Any of these makes a folder one with a tokenizer; Transformers may make up an empty one without.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.*",
    "*.vocab",
    "*.tiktoken",
    "spiece.model",
    "sentencepiece*.model",
    "tekken.json",
)
# float16 holds no more.
IMPOSSIBLE_IN_HALF = -6e4


class Tokens(NamedTuple):
    """What a tokenizer knows: all its ids, and by name those that prompts and responses can hold:
    ordinary tokens, BOS, EOS, and what the chat template writes.
    """

    ids: frozenset[int]
    needed: dict[str, int]


def tokens_beside(path: str | Path, revision: str | None = None) -> Tokens:
    """The tokens of the tokenizer in a model's folder, or beside it on the hub.

    ModelError if there is none, or none that can write text.
    """
    folder, stamp = Path(path), None
    if folder.is_dir():
        if not any(next(folder.glob(name), None) for name in TOKENIZER_FILES):
            raise ModelError(f"{path}: {_about_no_vocabulary(folder)}")
        stamp = tuple((f.name, f.stat().st_mtime_ns) for f in sorted(folder.iterdir()))
    return _tokens(str(path), revision, stamp)


def _about_no_vocabulary(folder: Path) -> str:
    if (folder / "tokenizer_config.json").is_file():
        return (
            "there is a tokenizer_config.json in this folder but no vocabulary (tokenizer.json,"
            " tokenizer.model or the like); save the whole tokenizer there. One without a"
            " vocabulary, which reads bytes as ByT5's does, cannot be used here"
        )
    return (
        "there is no tokenizer in this folder (tokenizer.json, tokenizer.model or the like); save"
        " it there with tokenizer.save_pretrained"
    )


@lru_cache(maxsize=8)
def _tokens(path: str, revision: str | None, stamp: Any) -> Tokens:
    """`stamp` changes with the files, whose tokens are kept: large tokenizers take a second."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=trusts(path)
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{path}: its tokenizer brings code of its own (auto_map in tokenizer_config.json),"
                " which is not run; if you trust that code: model.trust_remote_code=true"
            ) from error
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path}: its tokenizer cannot be read: {said:.200}") from error
    vocabulary = tokenizer.get_vocab()
    special = _special(tokenizer)
    if vocabulary.keys() <= special:
        raise ModelError(
            f"{path}: its tokenizer has no tokens but special ones, so that it can write no text; a"
            " file of it is missing (tokenizer.json, tokenizer.model or the like)"
        )
    written = str(tokenizer.chat_template) + f"{tokenizer.bos_token}{tokenizer.eos_token}"
    needed = {t: i for t, i in vocabulary.items() if t not in special or t in written}
    needed.pop(tokenizer.pad_token, None)  # any id serves for padding, which is masked
    return Tokens(frozenset(vocabulary.values()), needed)


def _special(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def check_vocabulary(model: nn.Module, path: str | Path, revision: str | None = None) -> None:
    """ModelError unless there is a tokenizer beside the model whose tokens have embeddings."""
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {t: i for t, i in tokens_beside(path, revision).needed.items() if i >= rows}
    if beyond:
        token = max(beyond, key=beyond.get)
        raise ModelError(
            f"{path}: its tokenizer has {len(beyond)} tokens beyond the model's {rows} embeddings,"
            f" such as {token!r} with id {beyond[token]}: model and tokenizer do not belong"
            " together, or the embeddings were not resized after tokens were added"
        )


class WithoutText:
    """A hook that gives token ids without text probability 0 in every output of a model."""

    def __init__(self, ids: Tensor):
        self.ids = ids

    def __call__(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        logits = outputs.logits
        if self.ids.device != logits.device:
            self.ids = self.ids.to(logits.device)
        # Where the probability is 0 so is the gradient: autograd need not know, and keep a copy.
        value = IMPOSSIBLE_IN_HALF if logits.dtype == torch.float16 else IMPOSSIBLE
        logits.detach().index_fill_(-1, self.ids, value)


def forbid_ids_without_text(
    model: PreTrainedModel, path: str | Path, revision: str | None = None
) -> None:
    """Make `model` give probability 0 to the ids that the tokenizer beside it has no token for.

    A model without a tokenizer stays as it is.
    """
    try:
        known = tokens_beside(path, revision).ids
    except ModelError:
        return
    head = model.get_output_embeddings()
    rows = model.config.get_text_config().vocab_size if head is None else head.weight.shape[0]
    if unknown := sorted(set(range(rows)) - known):
        model.register_forward_hook(WithoutText(torch.tensor(unknown)))


def ids_without_text(model: nn.Module) -> list[int]:
    """The ids that this model gives no probability to."""
    hooks = plain(model)._forward_hooks.values()
    return [i for hook in hooks if isinstance(hook, WithoutText) for i in hook.ids.tolist()]
