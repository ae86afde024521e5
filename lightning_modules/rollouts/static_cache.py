"""A cache of keys and values at fixed places in memory, of which buckets are views."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import StaticLayer


@dataclass(frozen=True)
class Sizes:
    """How large the bucket is that holds so many rows and columns.

    Every size is a shape for which something has to be made anew (a graph, a plan), and whatever
    a bucket has beyond what it holds is computed in vain. `powers`: rows are a power of two, or all
    of them. Columns are a multiple of `columns`, or of an eighth of a large bucket.
    """

    powers: bool
    columns: int

    def rows_for(self, count: int, most: int) -> int:
        return min(most, 1 << (count - 1).bit_length()) if self.powers else count

    def columns_for(self, count: int) -> int:
        step = max(self.columns, (1 << count.bit_length() - 1) // 8 if self.columns > 1 else 1)
        return -(-count // step) * step


# For graphs, which are of one shape each; and where nothing is made for a shape.
FIXED = Sizes(powers=True, columns=64)
EXACT = Sizes(powers=False, columns=1)


class FixedLayer(StaticLayer):
    """A layer's keys and values (B, H, S, D), which are written where `column` (1,) points to."""

    def __init__(self, keys: Tensor, values: Tensor, column: Tensor):
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self.cumulative_length = keys, values, column
        self.device = keys.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Write the keys and values of one token; all layers share `column`, which moves later."""
        self.keys.index_copy_(2, self.cumulative_length, key_states)
        self.values.index_copy_(2, self.cumulative_length, value_states)
        return self.keys, self.values


class FixedCache:
    """Room for `columns` tokens of a prompt and its response, for `samples` of each prompt.

    `mask` (B, 1, 1, S) is what attention adds to its scores: 0 at tokens, the least number of its
    dtype elsewhere.
    """

    def __init__(self, prompts: DynamicCache, prompt_mask: Tensor, samples: int, columns: int):
        width = prompt_mask.shape[1]
        self.column = torch.full((1,), width, device=prompt_mask.device)
        self.layers = []
        for layer in prompts.layers:
            self.layers += [self._filled(x, samples, columns) for x in (layer.keys, layer.values)]
            layer.keys = layer.values = None
        first = self.layers[0]
        self.mask = first.new_full((len(first), 1, 1, columns), torch.finfo(first.dtype).min)
        real = prompt_mask.repeat_interleave(samples, 0)[:, None, None]
        self.mask[..., :width].masked_fill_(real, 0.0)

    @staticmethod
    def _filled(prompts: Tensor, samples: int, columns: int) -> Tensor:
        count, heads, width, size = prompts.shape
        # Zeros, since what is masked is still multiplied, by 0.
        room = prompts.new_zeros(count * samples, heads, columns, size)
        room[:, :, :width] = prompts.repeat_interleave(samples, 0)
        return room

    def view(self, rows: int, columns: int) -> tuple[Cache, Tensor]:
        """The cache of the first so many rows and columns, and their mask."""
        views = [x[:rows, :, :columns] for x in self.layers]
        pairs = zip(views[::2], views[1::2], strict=True)
        cache = Cache(layers=[FixedLayer(keys, values, self.column) for keys, values in pairs])
        return cache, self.mask[:rows, ..., :columns]

    def move(self, source: Tensor, target: Tensor, columns: int) -> None:
        """Let rows `target` be what rows `source` are, as far as the first `columns` go."""
        for x in self.layers:
            x[target, :, :columns] = x[source, :, :columns]
        self.mask[target] = self.mask[source]
