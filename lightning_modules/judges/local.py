"""A language model in this process that judges: the probabilities of a verdict's token."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.records import Prompt
from lightning_modules.errors import ModelError
from lightning_modules.forward.passes import at_least_float32, position_ids
from lightning_modules.models.usable import positions

# Tokens of a forward pass, padding included.
BATCH_TOKENS = 16384


class LocalModel:
    """A model and its encoder, which writes a question as the chat template does; the verdict is
    the token that comes next.
    """

    def __init__(self, lm: nn.Module, encoder: Any, name: str):
        self.lm = lm
        self.encoder = encoder
        self.name = name

    def probabilities(
        self, texts: Sequence[str], verdicts: Sequence[str]
    ) -> list[tuple[dict[str, float], float] | None]:
        """To each question the probability of each verdict among these, and how much of all
        probability they have together; None to one with more tokens than the model has positions.
        """
        before, tokens = self.verdict_tokens(verdicts)
        prompts = [Prompt.from_text(text) for text in texts]
        rows = [ids + before for ids in self.encoder.prompts(prompts)]
        most = positions(self.lm.config) or sys.maxsize
        order = [i for i in range(len(rows)) if len(rows[i]) <= most]
        order.sort(key=lambda i: len(rows[i]))
        found: list[Any] = [None] * len(rows)
        for part in _batches(order, rows):
            for i, logprobs in zip(part, self._next([rows[i] for i in part]), strict=True):
                chosen = logprobs[tokens]
                total = chosen.logsumexp(-1)
                shares = dict(zip(verdicts, (chosen - total).exp().tolist(), strict=True))
                found[i] = shares, float(total.exp())
        return found

    def verdict_tokens(self, verdicts: Sequence[str]) -> tuple[list[int], list[int]]:
        """The tokens that stand before any verdict in an answer (often none; a space with some
        tokenizers), and the one that each verdict is. ModelError if one takes several.
        """
        rows = self.encoder.responses(list(verdicts), [False] * len(verdicts))
        same = 0
        while len({tuple(ids[: same + 1]) for ids in rows}) == 1 and len(rows[0]) > same + 1:
            same += 1
        last = [ids[same:] for ids in rows]
        if any(len(ids) != 1 for ids in last) or len({ids[0] for ids in last}) < len(last):
            raise ModelError(
                f"judge.model={self.name}: its tokenizer does not write each of"
                f" {', '.join(verdicts)} as one token of its own; give another model"
            )
        return rows[0][:same], [ids[0] for ids in last]

    @torch.no_grad()
    def _next(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities (B, V) of the token after each row."""
        device = next(self.lm.parameters()).device
        ids, mask = (x.to(device) for x in self.encoder.pad(rows, "left"))
        outputs = self.lm(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids(mask),
            use_cache=False,
            logits_to_keep=torch.tensor([ids.shape[1] - 1], device=device),
        )
        return at_least_float32(outputs.logits[:, -1]).log_softmax(-1).cpu()


def _batches(order: Sequence[int], rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of rows that come by length, in parts of at most BATCH_TOKENS tokens."""
    parts: list[list[int]] = []
    for i in order:
        if not parts or (len(parts[-1]) + 1) * len(rows[i]) > BATCH_TOKENS:
            parts.append([])
        parts[-1].append(i)
    return parts
