"""How a rollout's responses are sampled: by the plain loop, or in buckets."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

    def in_parts(
        self,
        most: int | None,
        lm: nn.Module,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        uniforms: Tensor,
        *,
        pad_id: int,
        **options: Any,
    ) -> Sampled:
        """The same with at most so many responses at a time; None: all. The noise of each is its
        own, so that tokens are the same but for rounding.
        """
        most = most or len(uniforms)
        samples = len(uniforms) // len(prompt_ids)
        prompts = max(1, most // samples)
        parts = [
            self(lm, ids, mask, drawn, pad_id=pad_id, **options)
            for ids, mask, rows in zip(
                prompt_ids.split(prompts),
                prompt_mask.split(prompts),
                uniforms.split(prompts * samples),
                strict=True,
            )
            for drawn in rows.split(most)
        ]
        return _beside(parts, pad_id)


def _beside(parts: list[Sampled], pad_id: int) -> Sampled:
    """All responses, as wide as the longest."""
    widths = [part.response_mask.shape[1] for part in parts]
    gaps = [max(widths) - width for width in widths]

    def joined(column: tuple[Tensor, ...], fill: float) -> Tensor:
        pairs = zip(column, gaps, strict=True)
        return torch.cat([F.pad(x, (0, gap), value=fill) for x, gap in pairs])

    return Sampled(*map(joined, zip(*parts, strict=True), (pad_id, False, 0.0)))
