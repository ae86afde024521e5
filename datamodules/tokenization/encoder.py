"""Prompts, responses and conversations as token ids, within the limits of the data."""

import copy
import sys
from collections import Counter
from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.records import DataError, Message, Prompt
from datamodules.tokenization.chat_format import ChatFormat
from datamodules.tokenization.padding import padded
from datamodules.tokenization.templates import ChatOptions
from datamodules.tokenization.truncation import CannotFit, cut_response, shortened

NO_LIMIT = sys.maxsize


class Encoder:
    """Prompts and responses as token ids, within the limits of the data.

    `counts` says how many were encoded and how many had to be truncated; `cut_prompts` are those
    prompts, each with the prompt that is left of it. With `renders_responses` the chat template
    writes the responses of `conversations` too, as reward models from elsewhere were trained on
    them. `chat`, `stops`, `rows` and `needs_stop` are those of a ChatFormat.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_prompt_tokens: int,
        max_response_tokens: int,
        *,
        renders_responses: bool = False,
        chat: ChatOptions | None = None,
        stops: Sequence[int] = (),
        rows: int | None = None,
        needs_stop: bool = True,
    ):
        self.tokenizer = tokenizer
        self.format = ChatFormat(tokenizer, chat, stops, rows, needs_stop)
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.renders_responses = renders_responses
        self.counts: Counter[str] = Counter()
        self.cut_prompts: dict[Prompt, Prompt] = {}

    def within(self, max_prompt_tokens: int, max_response_tokens: int) -> "Encoder":
        """The same with these limits, and with counts of its own."""
        other = copy.copy(self)
        other.max_prompt_tokens, other.max_response_tokens = max_prompt_tokens, max_response_tokens
        other.counts, other.cut_prompts = Counter(), {}
        return other

    @property
    def pad_id(self) -> int:
        return self.format.pad_id

    @property
    def stop_id(self) -> int:
        """The token that ends a response as it is taught."""
        return self.format.stop_id

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token by which a policy ends its response."""
        return self.format.stop_ids

    def prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Conversations up to where the response begins; those that are too long lose turns."""
        # Pairs repeat their prompts, and rendering a template is the slow part.
        unique = list(dict.fromkeys(prompts))
        encoded = dict(zip(unique, self._prompts([p.messages for p in unique]), strict=True))
        self.counts["prompts"] += len(unique)
        for prompt, ids in encoded.items():
            if len(ids) > self.max_prompt_tokens:
                kept = self._shortened(prompt)
                self.cut_prompts[prompt] = Prompt(tuple(kept))
                encoded[prompt] = self._prompts([kept])[0]
                self.counts["prompts truncated"] += 1
        return [encoded[p] for p in prompts]

    def least_tokens(self, prompt: Prompt) -> int:
        """The least limit that a prompt can be cut to."""
        try:
            shortened(prompt.messages, 0, self._prompt_length, self._starts)
        except CannotFit as error:
            return error.needed
        return 0

    def _shortened(self, prompt: Prompt) -> list[Message]:
        limit = self.max_prompt_tokens
        try:
            return shortened(prompt.messages, limit, self._prompt_length, self._starts)
        except CannotFit as error:
            raise DataError(
                f"a prompt cannot be cut to {limit} tokens: what must stay whole (system turn, the"
                f" template's markers, the end of the user's words) takes {error.needed}; set"
                f" data.max_prompt_tokens={error.needed} or more ({prompt.text!r:.100})"
            ) from error

    def _prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        return self.format.conversations(conversations, generation_prompt=True)

    def _prompt_length(self, messages: Sequence[Message]) -> int:
        return len(self._prompts([messages])[0])

    def _starts(self, text: str) -> list[int]:
        """At which characters the tokens of a text begin."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=self.tokenizer.is_fast,
        )
        return [start for start, _ in encoded.get("offset_mapping", ())] or list(range(len(text)))

    def responses(
        self, texts: Sequence[str], stopped: Sequence[bool] | None = None
    ) -> list[list[int]]:
        """Responses as the template writes them, each with the stop token; one that is too long is
        cut and does not stop, nor does one that is known not to have `stopped`.
        """
        ends = stopped or [True] * len(texts)
        encoded = self.format.responses(texts, ends)
        limit = self.max_response_tokens
        self.counts["responses"] += len(encoded)
        self.counts["responses truncated"] += sum(len(ids) >= limit for ids in encoded)
        pairs = zip(encoded, ends, strict=True)
        return [cut_response(ids, limit, self.stop_id, end) for ids, end in pairs]

    def conversations(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> list[list[int]]:
        """Prompt and response as one sequence each, as a reward model reads them."""
        if not self.renders_responses:
            pairs = zip(self.prompts(prompts), self.responses(texts, stopped), strict=True)
            return [prompt + response for prompt, response in pairs]
        whole = [
            [*prompt.messages, Message("assistant", text)]
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        encoded = self._whole(whole)
        limit = self.max_prompt_tokens + self.max_response_tokens
        return [
            ids if len(ids) <= limit else self._whole([self._fitted(messages, limit)])[0]
            for ids, messages in zip(encoded, whole, strict=True)
        ]

    def _whole(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        return self.format.conversations(conversations, generation_prompt=False)

    def _fitted(self, messages: Sequence[Message], limit: int) -> list[Message]:
        """A whole conversation within `limit`, by turns; only a response that is too long by itself
        loses its end.
        """

        def length(kept: Sequence[Message]) -> int:
            return len(self._whole([kept])[0])

        *before, response = messages
        places = self._starts(response.content)
        for size in (len(places), self.max_response_tokens):
            end = places[size] if size < len(places) else None
            said = Message("assistant", response.content[:end])
            try:
                return shortened([*before, said], limit, length, self._starts)
            except CannotFit as error:
                needed = error.needed
        raise DataError(
            f"a conversation cannot be cut to the {limit} tokens that the reward model reads: what"
            f" must stay whole takes {needed} ({before[-1].content!r:.100})"
        )

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of a response, without what the template writes around it."""
        return self.format.decode(ids.tolist() if isinstance(ids, Tensor) else ids)

    def pad(self, rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
        """Rows as one (B, S) tensor padded on `side`, and the (B, S) mask of what is real."""
        return padded(rows, self.pad_id, side)
