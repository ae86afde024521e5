"""Answers to imitate, for supervised fine-tuning."""

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.sampling import EpochSampler, rank_and_world_size
from datamodules.sources.source import Source
from datamodules.tokenization import Encoder


class DemonstrationDataModule(LightningDataModule):
    """Batches of {input_ids, attention_mask, response_mask}, each (B, S), padded on the right.

    `response_mask` marks the tokens of the answer and its stop token: those to be imitated.
    """

    def __init__(self, source: Source, encoder: Encoder, batch_size: int, seed: int):
        super().__init__()
        self.encoder = encoder
        self.batch_size = batch_size
        self.seed = seed
        self.rows = {split: self._encode(source, split) for split in ("train", "val")}

    def _encode(self, source: Source, split: str) -> list[tuple[list[int], list[int]]]:
        rows = source.demonstrations(split)
        prompts = self.encoder.prompts([row.prompt for row in rows])
        responses = self.encoder.responses([row.response for row in rows])
        return list(zip(prompts, responses, strict=True))

    def collate(self, rows: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
        ids, mask = self.encoder.pad([p + r for p, r in rows], "right")
        starts = torch.tensor([len(p) for p, _ in rows])
        response_mask = mask & (torch.arange(ids.shape[1]) >= starts[:, None])
        return {"input_ids": ids, "attention_mask": mask, "response_mask": response_mask}

    def train_dataloader(self) -> DataLoader:
        sampler = EpochSampler(len(self.rows["train"]), self.seed, *rank_and_world_size(self))
        return DataLoader(
            self.rows["train"],
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=self.collate,
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.rows["val"], batch_size=self.batch_size, collate_fn=self.collate)
