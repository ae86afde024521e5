"""Prompts, responses and conversations as token ids, within the limits of the data."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.records import Prompt
from datamodules.tokenization.padding import padded
from datamodules.tokenization.templates import render
from datamodules.tokenization.truncation import cut_prompt, cut_response


class Encoder:
    """Prompts and responses as token ids, within the limits of the data.

    `counts` says how many were encoded and how many had to be truncated; `cut_prompts` are those
    prompts. With `renders_responses` the chat template writes the responses of `conversations` too,
    as reward models from elsewhere were trained on them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_prompt_tokens: int,
        max_response_tokens: int,
        *,
        renders_responses: bool = False,
    ):
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.renders_responses = renders_responses
        self.counts: Counter[str] = Counter()
        self.cut_prompts: set[Prompt] = set()

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def stop_id(self) -> int:
        """The token by which a policy ends its response."""
        return self.tokenizer.eos_token_id

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end a response."""
        return (self.stop_id,)

    def prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Conversations up to where the response begins. Truncation keeps the end (and a BOS)."""
        # Pairs repeat their prompts, and rendering a template is the slow part.
        texts = {prompt: render(self.tokenizer, prompt) for prompt in dict.fromkeys(prompts)}
        encoded = self.tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"]
        limit, bos_id = self.max_prompt_tokens, self.tokenizer.bos_token_id
        pairs = list(zip(texts, encoded, strict=True))
        limited = {prompt: cut_prompt(ids, limit, bos_id) for prompt, ids in pairs}
        cut = {prompt for prompt, ids in pairs if len(ids) > limit}
        self.cut_prompts |= cut
        self.counts["prompts"] += len(texts)
        if cut:
            self.counts["prompts truncated"] += len(cut)
        return [limited[p] for p in prompts]

    def responses(
        self, texts: Sequence[str], stopped: Sequence[bool] | None = None
    ) -> list[list[int]]:
        """Responses, each with the stop token; one that is too long is cut and does not stop, nor
        does one that is known not to have `stopped`.
        """
        # What looks like a special token in a response is text; only the policy's own stop ends it.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        limit = self.max_response_tokens
        self.counts["responses"] += len(encoded)
        self.counts["responses truncated"] += sum(len(ids) >= limit for ids in encoded)
        ends = stopped or [True] * len(encoded)
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
        pairs = zip(prompts, texts, strict=True)
        rendered = [render(self.tokenizer, prompt, text) for prompt, text in pairs]
        limit = self.max_prompt_tokens + self.max_response_tokens
        encoded = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return [ids[-limit:] for ids in encoded]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of a response, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def pad(self, rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
        """Rows as one (B, S) tensor padded on `side`, and the (B, S) mask of what is real."""
        return padded(rows, self.pad_id, side)
