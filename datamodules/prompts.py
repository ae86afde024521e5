"""Prompts to respond to, for every policy-gradient algorithm."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.records import Prompt
from datamodules.row_order import IterationSampler, rank_and_world_size
from datamodules.sources.source import Source
from datamodules.tokenization.encoder import Encoder


class Row(NamedTuple):
    """A prompt, its place among all of its split, and its ids."""

    place: int
    prompt: Prompt
    ids: list[int]


def batch_of(encoder: Encoder, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """{prompt_ids, prompt_mask (B, P), padded on the left; prompts: the records}."""
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    return {"prompt_ids": ids, "prompt_mask": mask, "prompts": list(prompts)}


class PromptDataModule(LightningDataModule):
    """Batches of {prompt_ids, prompt_mask (B, P), padded on the left; prompts: the records; places:
    of the prompts among all of the split}.

    One training epoch is one batch, the prompts of one iteration. Held-out prompts are spread over
    the whole split and always come in the same order.
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        prompts_per_iteration: int,
        val_prompts: int,
        val_batch_size: int,
        seed: int,
    ):
        super().__init__()
        self.encoder = encoder
        self.prompts_per_iteration = prompts_per_iteration
        self.val_batch_size = val_batch_size
        self.seed = seed
        self.rows = {
            "train": self._encode(source.prompts("train")),
            "val": self._encode(spread(source.prompts("val"), val_prompts)),
        }

    def _encode(self, prompts: list[Prompt]) -> list[Row]:
        encoded = self.encoder.prompts(prompts)
        return [Row(*row) for row in zip(range(len(prompts)), prompts, encoded, strict=True)]

    def collate(self, rows: list[Row]) -> dict[str, Any]:
        ids, mask = self.encoder.pad([row.ids for row in rows], "left")
        return {
            "prompt_ids": ids,
            "prompt_mask": mask,
            "prompts": [row.prompt for row in rows],
            "places": [row.place for row in rows],
        }

    def train_dataloader(self) -> DataLoader:
        rank, world_size = rank_and_world_size(self)
        sampler = IterationSampler(
            len(self.rows["train"]), self.prompts_per_iteration, self.seed, rank, world_size
        )
        return DataLoader(
            self.rows["train"],
            batch_size=len(sampler),
            sampler=sampler,
            collate_fn=self.collate,
        )

    def val_dataloader(self) -> DataLoader:
        rank, world_size = rank_and_world_size(self)
        return DataLoader(
            self.rows["val"][rank::world_size],
            batch_size=self.val_batch_size,
            collate_fn=self.collate,
        )


def spread(rows: list[Prompt], count: int) -> list[Prompt]:
    """At most `count` rows, evenly spaced over all of them."""
    if len(rows) <= count:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]
