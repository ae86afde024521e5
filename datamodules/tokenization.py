"""The only place where text becomes token ids."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from datamodules.records import DataError, Prompt

SPECIAL_TOKENS = {
    "pad_token": "<|pad|>",
    "bos_token": "<|bos|>",
    "eos_token": "<|eos|>",
}
TURN_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
EMBEDDED_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# For tokenizers that bring no chat template of their own, as those of base models do. An answer
# begins on a line of its own, so that its first token needs no leading space.
PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant'}[m['role']] }}:\n"
    "{{ m['content'] }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
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
        raise DataError(f"{path}: its tokenizer has no EOS token, so no answer could ever end")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class Encoder:
    """Prompts and responses as token ids, within the limits of the data.

    `counts` says how many were encoded and how many had to be truncated; `cut_prompts` are those
    prompts. With `renders_answers` the chat template writes the answers of `conversations` too, as
    reward models from elsewhere were trained on them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_prompt_tokens: int,
        max_response_tokens: int,
        *,
        renders_answers: bool = False,
    ):
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.renders_answers = renders_answers
        self.counts: Counter[str] = Counter()
        self.cut_prompts: set[Prompt] = set()

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def stop_id(self) -> int:
        """The token by which a policy ends its answer."""
        return self.tokenizer.eos_token_id

    def prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Conversations up to where the answer begins. Truncation keeps the end (and a BOS)."""
        # Pairs repeat their prompts, and rendering a template is the slow part.
        texts = {prompt: self._render(prompt) for prompt in dict.fromkeys(prompts)}
        encoded = self.tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"]
        limited = dict(zip(texts, map(self._limit_prompt, encoded), strict=True))
        pairs = zip(texts, encoded, strict=True)
        self.cut_prompts |= {p for p, ids in pairs if len(ids) > self.max_prompt_tokens}
        self.counts["prompts"] += len(texts)
        return [limited[p] for p in prompts]

    def _render(self, prompt: Prompt, answer: str | None = None) -> str:
        messages = [m._asdict() for m in prompt.messages]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None
            )
        except TemplateError as error:
            raise DataError(
                f"the chat template refuses a conversation ({error}): {prompt.text!r:.200}"
            ) from error

    def _limit_prompt(self, ids: list[int]) -> list[int]:
        limit = self.max_prompt_tokens
        if len(ids) <= limit:
            return ids
        self.counts["prompts truncated"] += 1
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[0] == bos and limit > 1:
            return [bos, *ids[1 - limit :]]
        return ids[-limit:]

    def responses(
        self, texts: Sequence[str], stopped: Sequence[bool] | None = None
    ) -> list[list[int]]:
        """Answers, each with the stop token; one that is too long is cut and does not stop, nor
        does one that is known not to have `stopped`.
        """
        # What looks like a special token in an answer is text; only the policy's own stop ends it.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        self.counts["responses"] += len(encoded)
        self.counts["responses truncated"] += sum(
            len(ids) >= self.max_response_tokens for ids in encoded
        )
        ends = stopped or [True] * len(encoded)
        return [
            [*ids, self.stop_id]
            if len(ids) < self.max_response_tokens and end
            else ids[: self.max_response_tokens]
            for ids, end in zip(encoded, ends, strict=True)
        ]

    def conversations(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> list[list[int]]:
        """Prompt and answer as one sequence each, as a reward model reads them."""
        if not self.renders_answers:
            pairs = zip(self.prompts(prompts), self.responses(texts, stopped), strict=True)
            return [prompt + response for prompt, response in pairs]
        rendered = [self._render(p, text) for p, text in zip(prompts, texts, strict=True)]
        limit = self.max_prompt_tokens + self.max_response_tokens
        encoded = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return [ids[-limit:] for ids in encoded]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of an answer, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def pad(self, rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
        """Rows as one (B, S) tensor padded on `side`, and the (B, S) mask of what is real."""
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        for i, row in enumerate(rows):
            place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[i, place] = torch.tensor(row, dtype=torch.long)
            mask[i, place] = True
        return ids, mask
