"""Which sequences go through a model together: for memory and speed, and for no result."""

import torch
from torch import Tensor

from lightning_modules.forward.within_memory import AsManyAsFit
from lightning_modules.options.policies import AUTO

# Where it is open how many tokens fit: as many keep two cores busy, and take little memory.
FEW_TOKENS = 4096


def grouped(
    prompt_lengths: Tensor,
    response_lengths: Tensor,
    sequences: int | None,
    tokens: int | None,
    prompt_of: Tensor | None = None,
) -> list[Tensor]:
    """All rows (B,) once, in parts of at most `sequences` rows and, padding included, `tokens`
    tokens, or of one row that is longer.

    A part is as wide as its longest prompt and its longest response together. Where tokens count,
    rows of similar length come together, the longest first: what runs out of memory does so at
    once. Otherwise rows stay in their order. Of rows that share prompts, by `prompt_of` (B,), those
    of one prompt come together, unless rows of similar length are read with fewer tokens.
    """
    device, count = prompt_lengths.device, len(prompt_lengths)
    if tokens is None:
        order = torch.arange(count, device=device)
        if prompt_of is not None:
            order = prompt_of.argsort(stable=True)
        return list(order.split(sequences or count))
    pairs = list(zip(prompt_lengths.tolist(), response_lengths.clamp(min=1).tolist(), strict=True))
    limits = (sequences or count, tokens)
    by_length = sorted(range(count), key=lambda i: (max(pairs[i]), sum(pairs[i])), reverse=True)
    parts = _filled(by_length, pairs, *limits)
    if prompt_of is not None:
        owners = prompt_of.tolist()
        places = {owner: i for i, owner in enumerate(dict.fromkeys(owners[i] for i in by_length))}
        by_prompt = sorted(by_length, key=lambda i: places[owners[i]])
        candidates = (_filled(by_prompt, pairs, *limits), parts)
        parts = min(candidates, key=lambda parts: _tokens_read(parts, pairs, owners))
    return [torch.tensor(sorted(part), device=device) for part in parts]


def _filled(
    order: list[int], pairs: list[tuple[int, int]], sequences: int, tokens: int
) -> list[list[int]]:
    """Rows in this order, each part as full as the limits allow; lengths by `pairs`."""
    parts: list[list[int]] = [[]]
    longest = (0, 0)
    for row in order:
        wider = tuple(map(max, longest, pairs[row]))
        more = len(parts[-1]) + 1
        if parts[-1] and (more * sum(wider) > tokens or more > sequences):
            parts.append([])
            wider = pairs[row]
        parts[-1].append(row)
        longest = wider
    return parts


def _tokens_read(parts: list[list[int]], pairs: list[tuple[int, int]], owners: list[int]) -> int:
    """By a model that reads a prompt once for the rows of a part, padding included."""
    return sum(
        len({owners[i] for i in part}) * max(pairs[i][0] for i in part)
        + len(part) * max(pairs[i][1] for i in part)
        for part in parts
    )


class MicroBatches(AsManyAsFit):
    """How much goes through a model at a time; None: no limit. Shared by a policy's updates and the
    collector of its rollouts.
    """

    def __init__(self, sequences: int | None = None, tokens: int | str | None = None):
        tokens = FEW_TOKENS if tokens == AUTO else tokens
        super().__init__("micro-batches hold", sequences, tokens)

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Of sequences, and of tokens."""
        return self.sequences, self.tokens

    def sequences_of(self, length: int) -> int | None:
        """How many sequences of so many tokens a micro-batch holds; None: any number."""
        by_tokens = None if self.tokens is None else max(1, self.tokens // length)
        return min((n for n in (self.sequences, by_tokens) if n is not None), default=None)

    @property
    def option(self) -> str:
        """The option that limits them."""
        return f"algo.micro_batch_{'size' if self.tokens is None else 'tokens'}"

    def halvings(self, rows: int) -> int:
        """Once: where that is not enough, a person is to lower the option."""
        return 1
