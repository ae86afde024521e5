"""Which sequences go through a model together: for memory and speed, and for no result."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.forward.within_memory import AsManyAsFit
from lightning_modules.options.policies import AUTO

# Where it is open how many tokens fit: as many keep two cores busy, and take little memory.
FEW_TOKENS = 4096


def real_columns(prompt_mask: Tensor, response_mask: Tensor) -> tuple[int, int]:
    """(start, end): where the first prompt begins, and how long the longest response is; what is
    before and after is padding for all. One slot of a response is left where none is real.
    """
    return int(prompt_mask.any(0).long().argmax()), max(1, int(response_mask.sum(-1).max()))


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

    def of_all(
        self,
        outputs: Callable[..., tuple[Tensor | None, ...]],
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None,
        order: Tensor | None = None,
    ) -> list[Tensor | None]:
        """What `outputs` says of all sequences, each (B, T) or None, from what it says of parts;
        with `order` (B,), of all at once in that order, where they are one part.
        """

        def step() -> list[Tensor | None]:
            whole: list[Tensor | None] = []
            for rows in self._parts(prompt_mask, response_mask, prompt_of, order):
                masks = prompt_mask[rows], response_mask[rows]
                start, end = 0, response_mask.shape[1]
                at_once = order is not None and len(rows) == len(sequences)
                if self.tokens is not None or at_once:
                    start, end = real_columns(*masks)
                said = outputs(
                    sequences[rows, start : prompt_mask.shape[1] + end],
                    masks[0][:, start:],
                    masks[1][:, :end],
                    prompt_of=None if prompt_of is None else prompt_of[rows],
                )
                if not whole:
                    whole = [x if x is None else x.new_zeros(response_mask.shape) for x in said]
                for all_rows, x in zip(whole, said, strict=True):
                    if x is not None:
                        all_rows[rows, :end] = x.detach()
            return whole

        return self.within_memory(step, len(sequences))

    def _parts(
        self,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None,
        order: Tensor | None,
    ) -> list[Tensor]:
        """The rows of each micro-batch; of one alone as an optimiser step in this order has it."""
        lengths = prompt_mask.sum(-1), response_mask.sum(-1)
        parts = grouped(*lengths, *self.limits, prompt_of)
        if order is None or len(parts) > 1:
            return parts
        owners = None if prompt_of is None else prompt_of[order]
        return [order[rows] for rows in grouped(*(x[order] for x in lengths), *self.limits, owners)]
