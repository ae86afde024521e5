"""Text that is text: what spells a control token inside a message is encoded as ordinary text."""

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from functools import cached_property

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from datamodules.records import DataError

# Characters that Unicode leaves to private use stand for what is hidden while a template is
# rendered. One that a text has itself is hidden as well.
FIRST, LAST = 0xF0000, 0xFFFFD
PRIVATE = re.compile(f"[{chr(FIRST)}-{chr(LAST)}]")
# What the template's own tokens are called while the result is encoded. No text can know it.
SECRET = secrets.token_hex(8)


class ControlTokens:
    """The tokens that a tokenizer and its template use to mark turns, told from text that spells
    them.

    Contents are hidden by `hide` before a template writes them; `encode` then takes what is hidden
    as text, and all else as a tokenizer does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str):
        """`written` is a conversation as the template writes it: added tokens in it mark turns,
        even if the tokenizer does not call them special.
        """
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.ids = {
            token.content: i
            for i, token in added.items()
            if token.special or (token.content in written and not token.content.isspace())
        }
        self._own = re.compile(any_of(self.ids))
        self._spelled = re.compile(f"{self._own.pattern}|{PRIVATE.pattern}")
        self._placeholders: dict[str, str] = {}
        self._literals: dict[str, str] = {}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        changed = any(added[i].normalized for i in self.ids.values())
        self._normaliser = backend.normalizer if backend is not None and changed else None

    def hide(self, text: str) -> str:
        """The text with a private character in the place of everything that spells a token."""
        hidden = self._spelled.sub(lambda match: self._placeholder(match[0]), text)
        if hidden == text and self._normaliser and self._spells_normalised(text):
            # Another character in its place is enough for the whole to be taken as text.
            return re.sub(r"\S", lambda match: self._placeholder(match[0]), text, count=1)
        return hidden

    def _spells_normalised(self, text: str) -> bool:
        return bool(self._own.search(self._normaliser.normalize_str(text)))

    def _placeholder(self, literal: str) -> str:
        if literal not in self._placeholders:
            placeholder = chr(FIRST + len(self._placeholders))
            self._placeholders[literal] = placeholder
            self._literals[placeholder] = literal
        return self._placeholders[literal]

    def show(self, text: str) -> str:
        """What `hide` was given."""
        return PRIVATE.sub(lambda match: self._literals.get(match[0], match[0]), text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that a template wrote of hidden contents."""
        guarded = {i: self._encode_guarded(t) for i, t in enumerate(texts) if PRIVATE.search(t)}
        plain = [text for i, text in enumerate(texts) if i not in guarded]
        encoded = iter(
            self.tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else ()
        )
        return [guarded[i] if i in guarded else next(encoded) for i in range(len(texts))]

    def _encode_guarded(self, text: str) -> list[int]:
        names = self._names
        written = self._own.sub(lambda match: names[match[0]], text)
        encoding = self._guarded.encode(self.show(written), add_special_tokens=False)
        # What a tokenizer has no pieces for is unknown to it, whatever it spells.
        control = set(self.ids.values()) - {self.tokenizer.unk_token_id}
        if spelled := control & set(encoding.ids):
            tokens = self.tokenizer.convert_ids_to_tokens(sorted(spelled))
            raise DataError(
                f"a text spells {', '.join(tokens)}, which this tokenizer cannot write as plain"
                f" text: {self.show(text)!r:.200}"
            )
        own = {self._guarded.token_to_id(name): self.ids[token] for token, name in names.items()}
        return [own.get(i, i) for i in encoding.ids]

    @cached_property
    def _names(self) -> dict[str, str]:
        """What the template's own tokens are called while hidden text is encoded."""
        return {token: f"<{SECRET}{i}>" for i, token in enumerate(self.ids)}

    @cached_property
    def _guarded(self) -> Tokenizer:
        """The tokenizer, in which the control tokens go by private names alone."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(
                "a text spells a special token, and this tokenizer has no fast version"
                " (tokenizer.json) that could write it as plain text"
            )
        state = json.loads(backend.to_str())
        attributes = {token["content"]: token for token in state["added_tokens"]}
        for token in self.ids:
            attributes[token]["special"] = True  # special tokens alone can be taken as text
        guarded = Tokenizer.from_str(json.dumps(state))
        guarded.add_tokens([_renamed(attributes[t], name) for t, name in self._names.items()])
        guarded.encode_special_tokens = True
        guarded.no_padding()
        guarded.no_truncation()
        return guarded


def _renamed(token: dict, name: str) -> AddedToken:
    """A token under another name that takes the same spaces with it."""
    kept = {key: token[key] for key in ("lstrip", "rstrip", "single_word", "normalized")}
    return AddedToken(name, special=False, **kept)


def any_of(tokens: Iterable[str]) -> str:
    """A pattern for one of these tokens, the longest where several begin; matches nothing if there
    are none.
    """
    longest_first = sorted(tokens, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)) or r"(?!)"
