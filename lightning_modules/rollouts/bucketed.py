"""Sampling responses in buckets: every token is a step between tensors that stay where they are.

On a GPU a bucket's step is captured as a graph and replayed, so that nothing is launched from
Python (lightning_modules/rollouts/graphs.py); elsewhere the same step is run. The tokens are those
of the plain loop (lightning_modules/rollouts/generation.py) for the same noise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.rollouts.generation import Sampled, next_logits, read_prompts
from lightning_modules.rollouts.graphs import EveryStep, Graphs
from lightning_modules.rollouts.static_cache import FixedCache, Sizes
from lightning_modules.rollouts.tokens import sample_tokens


@torch.no_grad()
def generate_in_buckets(
    lm: nn.Module,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    uniforms: Tensor,
    *,
    temperature: float,
    stop_id: int | Sequence[int],
    pad_id: int,
    sizes: Sizes,
    graphs: bool = False,
) -> Sampled:
    """What `generate` does; finished rows leave when the others fit into a smaller bucket. With
    `graphs`, a bucket's step is captured where the device can do that.
    """
    batch, limit = uniforms.shape
    samples = batch // len(prompt_ids)
    decoder = Decoder(lm, prompt_ids, prompt_mask, uniforms, temperature, stop_id, sizes)
    steps = Graphs() if graphs and prompt_ids.is_cuda else EveryStep()
    rows = batch
    for t in range(1, limit):
        going = decoder.count(rows)
        if not going:
            break
        smaller = sizes.rows_for(going, rows)
        if smaller < rows:
            decoder.shrink(rows, smaller)
            rows = smaller
        columns = sizes.columns_for(prompt_ids.shape[1] + t)
        steps.run((rows, columns), lambda shape: decoder.bucket(*shape))
    ids = prompt_ids.repeat_interleave(samples, 0)
    return decoder.result(ids, pad_id)


class Decoder:
    """All that a step reads and writes. The first rows of each tensor are those still in a bucket;
    `rows` says which of the batch they are, `place` (1,) which token is the next.
    """

    def __init__(
        self,
        lm: nn.Module,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        uniforms: Tensor,
        temperature: float,
        stop_id: int | Sequence[int],
        sizes: Sizes,
    ):
        self.lm, self.uniforms, self.temperature = lm, uniforms, temperature
        batch, limit = uniforms.shape
        samples = batch // len(prompt_ids)
        device = prompt_ids.device
        logits, prompts = read_prompts(lm, prompt_ids, prompt_mask)
        self.cache = FixedCache(
            prompts, prompt_mask, samples, sizes.columns_for(prompt_ids.shape[1] + limit)
        )
        self.stops = torch.as_tensor(stop_id, device=device).reshape(-1)
        self.rows = torch.arange(batch, device=device)
        self.going = torch.ones(batch, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.positions = prompt_mask.long().sum(-1, keepdim=True).repeat_interleave(samples, 0)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.responses = torch.zeros(batch, limit, dtype=torch.long, device=device)
        self.logprobs = torch.zeros_like(uniforms)
        self._sample(logits.repeat_interleave(samples, 0))

    def bucket(self, rows: int, columns: int) -> Callable[[], None]:
        """The step of the first so many rows, attending to the first so many columns."""
        cache, mask = self.cache.view(rows, columns)
        tokens, positions = self.tokens[:rows], self.positions[:rows]

        def step() -> None:
            mask.index_fill_(3, self.cache.column, 0.0)
            logits = next_logits(self.lm, tokens, mask, positions, cache)
            self.cache.column.add_(1)
            self.place.add_(1)
            positions.add_(1)
            self._sample(logits)

        return step

    def _sample(self, logits: Tensor) -> None:
        rows = self.rows[: len(logits)]
        tokens, logprobs = sample_tokens(logits, self.temperature, self.uniforms[rows, self.place])
        self.tokens[: len(logits)] = tokens[:, None]
        self.responses[rows, self.place] = tokens
        self.logprobs[rows, self.place] = logprobs
        self.going[: len(logits)] &= (tokens[:, None] != self.stops).all(1)

    def count(self, rows: int) -> int:
        """How many of the first so many rows have not stopped. A device is waited for here."""
        return int(self.going[:rows].sum())

    def shrink(self, rows: int, smaller: int) -> None:
        """Let those of `rows` rows that go on be among the first `smaller`."""
        going = self.going[:rows]
        source = smaller + going[smaller:].nonzero().squeeze(1)
        target = (~going[:smaller]).nonzero().squeeze(1)[: len(source)]
        for x in (self.rows, self.going, self.tokens, self.positions):
            x[target] = x[source]
        self.cache.move(source, target, int(self.cache.column))

    def result(self, prompt_ids: Tensor, pad_id: int) -> Sampled:
        """Prompts, and responses up to their first stop token: behind it a row went on in vain."""
        limit = self.responses.shape[1]
        stopped = torch.isin(self.responses, self.stops)
        lengths = torch.where(stopped.any(1), stopped.int().argmax(1) + 1, limit)
        longest = int(lengths.max())
        real = torch.arange(longest, device=lengths.device) < lengths[:, None]
        responses = self.responses[:, :longest].masked_fill(~real, pad_id)
        logprobs = self.logprobs[:, :longest].masked_fill(~real, 0.0)
        return Sampled(torch.cat([prompt_ids, responses], dim=1), real, logprobs)
