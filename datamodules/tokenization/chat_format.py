"""The format of a chat: what a template writes around a response, and what ends it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from datamodules.records import DataError, Message
from datamodules.tokenization.control_tokens import ControlTokens, first_of
from datamodules.tokenization.templates import ChatOptions, ChatTemplate

# A conversation to see by what the template writes around its turns.
QUESTION, ANSWER = Message("user", "Qx7"), Message("assistant", "Ax7")


class ChatFormat:
    """A tokenizer's template as rollouts and lessons need it.

    `lead` is what the template writes between its generation prompt and a response, `tail` what it
    writes between the response and the token that ends it, `stop_id`. `stop_ids` are all tokens
    that end a response: that one, those that the model's generation config names (`stops`) and the
    tokenizer's EOS token. `prefix` are the ids that the tokenizer itself puts first (BOS), where it
    does. Ids of `rows` and above have no embedding: the model cannot say them.

    DataError if no token could end a response (unless not `needs_stop`: nothing is sampled), or if
    the template leaves responses out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        options: ChatOptions | None = None,
        stops: Sequence[int] = (),
        rows: int | None = None,
        needs_stop: bool = True,
    ):
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, options or ChatOptions())
        self.rows = rows
        self.opening = self._opening()
        self.control = ControlTokens(tokenizer, self._turns())
        self.prompt = self.template.render(self.opening, generation_prompt=True)
        whole = self.template.render([*self.opening, ANSWER], generation_prompt=False)
        self.before, found, self.after = whole.rpartition(ANSWER.content)
        if not found:
            raise DataError(
                "the chat template leaves out what the assistant says, so no response could be"
                " taught; give another one with model.chat_template=<file>"
            )
        # A prompt may end in what the template's own conversations do not have.
        self.continues = self.before.startswith(self.prompt)
        self.lead = self.before.removeprefix(self.prompt) if self.continues else ""
        self.tail, self.stop_id = self._end()
        eos = tokenizer.eos_token_id
        known = {self.stop_id, eos, *stops} - {None}
        self.stop_ids = tuple(sorted(i for i in known if self.has(i)))
        if not self.stop_ids and needs_stop:
            raise DataError(
                f"no token could end a response: {self._named(known) or 'there is no EOS token'}"
                + (f", and the model has embeddings for {rows} ids" if known else "")
            )
        if self.stop_ids and self.stop_id not in self.stop_ids:
            self.tail, self.stop_id = "", eos if eos in self.stop_ids else self.stop_ids[0]

    def _opening(self) -> list[Message]:
        """The shortest beginning of a conversation that the template takes."""
        try:
            self.template.render([QUESTION], generation_prompt=True)
        except DataError:
            with_system = [Message("system", "Sx7"), QUESTION]
            self.template.render(with_system, generation_prompt=True)
            return with_system
        return [QUESTION]

    def _turns(self) -> str:
        """A conversation with a turn of every kind that the template takes, as text."""
        exchange = [*self.opening, ANSWER]
        try:
            return self.template.render([*exchange, QUESTION], generation_prompt=False)
        except DataError:  # of one exchange at most
            return self.template.render(exchange, generation_prompt=False)

    def has(self, token_id: int | None) -> bool:
        """Whether the model has an embedding for this id."""
        return token_id is not None and 0 <= token_id < (self.rows or token_id + 1)

    def _end(self) -> tuple[str, int | None]:
        """What the template writes before the token that ends a response, and that token."""
        added = self.tokenizer.added_tokens_encoder
        eos = self.tokenizer.eos_token
        tokens = {token for token in added if not token.isspace()} | ({eos} if eos else set())
        found = first_of(tokens, self.after)
        if found is None:
            return "", self.tokenizer.eos_token_id
        return self.after[: found.start()], self.tokenizer.convert_tokens_to_ids(found[0])

    @property
    def pad_id(self) -> int:
        """The tokenizer's padding token if the model has it; else another: padding is masked."""
        own, eos = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        return next((i for i in (own, eos, self.stop_id) if self.has(i)), 0)

    @cached_property
    def prefix(self) -> list[int]:
        """What the tokenizer puts before any text by itself: BOS, or nothing."""
        text = QUESTION.content
        inner = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(text)["input_ids"]
        start = next(i for i in range(len(whole) + 1) if whole[i : i + len(inner)] == inner)
        return whole[:start]

    @cached_property
    def lead_shown(self) -> str:
        """What decoding shows before a response: the lead, and spaces that a tokenizer adds."""
        (ids,) = self.responses([ANSWER.content], [False])
        return self._decoded(ids).rpartition(ANSWER.content)[0]

    @cached_property
    def context(self) -> tuple[str, list[int]]:
        """What the template writes between a user's words and a response, as text and as ids.

        A response is encoded behind it, as tokenizers may treat the beginning of a text in a way
        of its own.
        """
        text = "x" + self.prompt.rpartition(QUESTION.content)[2]
        return text, self.control.encode([text])[0]

    def hidden(self, messages: Sequence[Message]) -> list[Message]:
        """Messages in which nothing spells a control token."""
        return [Message(m.role, self.control.hide(m.content)) for m in messages]

    def conversations(
        self, conversations: Sequence[Sequence[Message]], *, generation_prompt: bool
    ) -> list[list[int]]:
        """Conversations as ids, as the template writes them."""
        texts = [
            self.template.render(self.hidden(messages), generation_prompt=generation_prompt)
            for messages in conversations
        ]
        size = len(self.prefix)
        rows = self._checked(self.control.encode(texts))
        return [ids if ids[:size] == self.prefix else self.prefix + ids for ids in rows]

    def responses(self, texts: Sequence[str], stopped: Sequence[bool]) -> list[list[int]]:
        """Responses as ids, as the template writes them, without the token that ends them."""
        context, behind = self.context
        written = [self._written(t, end) for t, end in zip(texts, stopped, strict=True)]
        rows = self.control.encode([context + text for text in written])
        alone = [i for i, ids in enumerate(rows) if ids[: len(behind)] != behind]
        rows = [ids[len(behind) :] for ids in rows]
        # Its first characters make one token with the template's last ones: a policy, which goes on
        # from the template's tokens, would write them by themselves.
        for i, ids in zip(alone, self.control.encode([written[i] for i in alone]), strict=True):
            rows[i] = ids
        return self._checked(rows)

    def _written(self, text: str, ends: bool) -> str:
        """A response with what the template writes before it and, if it `ends`, behind it."""
        hidden = self.control.hide(text)
        answer = Message(ANSWER.role, hidden)
        whole = self.template.render([*self.opening, answer], generation_prompt=False)
        start = self.prompt if self.continues else self.before
        if whole.startswith(start) and whole.endswith(self.after):
            body = whole[len(start) : len(whole) - len(self.after)]
        else:
            body = self.lead + hidden
        return body + self.tail if ends else body

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a response, without what the template writes around it."""
        ids = list(map(int, ids))
        ended = bool(ids) and ids[-1] in self.stop_ids
        text = self._decoded(ids[:-1] if ended else ids).removeprefix(self.lead_shown)
        return text.removesuffix(self.tail) if ended else text

    def _decoded(self, ids: list[int]) -> str:
        """The text of ids that stand behind what the template writes: tokenizers that put a space
        before a text take one away from its beginning, which here is that of a prompt.
        """
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        _, behind = self.context
        text, before = (self.tokenizer.decode(x, **options) for x in (behind + ids, behind))
        if text.startswith(before):
            return text[len(before) :]
        return self.tokenizer.decode(ids, **options)

    def _checked(self, rows: list[list[int]]) -> list[list[int]]:
        """The rows themselves; DataError if the model has no embedding for one of their ids."""
        for ids in rows if self.rows else ():
            if ids and max(ids) >= self.rows:
                raise DataError(
                    f"{self._named({max(ids)})} occurs in a text, and the model has embeddings for"
                    f" {self.rows} ids: its tokenizer has grown, and it has not; give the"
                    f" tokenizer that it was trained with ({self.tokenizer.decode(ids)!r:.200})"
                )
        return rows

    @property
    def template_begins(self) -> bool:
        """Whether the template itself writes what the tokenizer would put first."""
        ids = self.control.encode([self.prompt])[0]
        return ids[: len(self.prefix)] == self.prefix

    def _named(self, ids: set[int]) -> str:
        tokens = self.tokenizer.convert_ids_to_tokens(sorted(ids))
        return ", ".join(f"{t!r} (id {i})" for t, i in zip(tokens, sorted(ids), strict=True))

    def identity(self) -> dict[str, Any]:
        """Everything of the format that shapes what is taught."""
        return self.template.identity() | {"stops": self.stop_ids, "rows": self.rows}
