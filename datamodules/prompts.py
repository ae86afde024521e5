"""Prompts to answer, for every policy-gradient algorithm."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from datamodules.records import DataError, Prompt
from datamodules.sources.source import Source
from datamodules.tokenization import Encoder


class IterationSampler(Sampler[int]):
    """The prompts of one iteration, as a function of (seed, iteration, rank) alone.

    All ranks draw the same `size` prompts, then each takes its own share. Prompts come without
    replacement: every one is used once before any is used again.
    """

    def __init__(self, count: int, size: int, seed: int, rank: int = 0, world_size: int = 1):
        if size % world_size:
            raise DataError(
                f"algo.prompts_per_iteration={size}: must divide by the {world_size} devices"
            )
        self.count = count
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.iteration = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning, for which an iteration is an epoch of one batch."""
        self.iteration = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def __iter__(self) -> Iterator[int]:
        places = np.arange(self.iteration * self.size, (self.iteration + 1) * self.size)
        share = places[self.rank :: self.world_size]
        orders: dict[int, np.ndarray] = {}
        for place in share:
            lap, position = divmod(int(place), self.count)
            if lap not in orders:
                orders[lap] = np.random.default_rng([self.seed, lap]).permutation(self.count)
            yield int(orders[lap][position])


class PromptDataModule(LightningDataModule):
    """Batches of {prompt_ids, prompt_mask (B, P), padded on the left; prompts: the records}.

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
            "val": self._encode(_spread(source.prompts("val"), val_prompts)),
        }

    def _encode(self, prompts: list[Prompt]) -> list[tuple[Prompt, list[int]]]:
        return list(zip(prompts, self.encoder.prompts(prompts), strict=True))

    def collate(self, rows: list[tuple[Prompt, list[int]]]) -> dict[str, Any]:
        ids, mask = self.encoder.pad([ids for _, ids in rows], "left")
        return {"prompt_ids": ids, "prompt_mask": mask, "prompts": [prompt for prompt, _ in rows]}

    def train_dataloader(self) -> DataLoader:
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
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
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        return DataLoader(
            self.rows["val"][rank::world_size],
            batch_size=self.val_batch_size,
            collate_fn=self.collate,
        )


def _spread(rows: list[Prompt], count: int) -> list[Prompt]:
    """At most `count` rows, evenly spaced over all of them."""
    if len(rows) <= count:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]
