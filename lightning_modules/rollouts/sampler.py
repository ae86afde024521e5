"""How a rollout's responses are sampled: by the plain loop, or in buckets."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from lightning_modules.forward.mixed_precision import casts_kept
from lightning_modules.rollouts.bucketed import generate_in_buckets
from lightning_modules.rollouts.generation import Sampled, generate
from lightning_modules.rollouts.grouped_attention import keys_not_repeated
from lightning_modules.rollouts.merged_adapters import adapters_merged
from lightning_modules.rollouts.static_cache import Sizes


@dataclass(frozen=True)
class Sampler:
    """The plain loop, or with `sizes` buckets of these; adapters are then merged meanwhile. With
    `graphs`, a bucket's step is captured as a CUDA graph.
    """

    sizes: Sizes | None = None
    graphs: bool = False

    def for_columns(self, count: int) -> "Sampler":
        """The same with room for so many columns in every bucket, if their number is rounded."""
        if self.sizes is None or self.sizes.columns == 1:
            return self
        return replace(self, sizes=replace(self.sizes, columns=self.sizes.columns_for(count)))

    def __call__(self, lm: nn.Module, *given: Tensor, **options: Any) -> Sampled:
        """As `generate`, which says what is given and what comes back."""
        device = given[0].device
        if self.sizes is None:
            with casts_kept(device):
                return generate(lm, *given, **options)
        with adapters_merged(lm), casts_kept(device), keys_not_repeated():
            return generate_in_buckets(lm, *given, **options, sizes=self.sizes, graphs=self.graphs)
