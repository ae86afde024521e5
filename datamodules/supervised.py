"""What demonstrations and preferences share: rows that are encoded once, and their loaders."""

from abc import abstractmethod
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.sampling import EpochSampler, rank_and_world_size
from datamodules.sources.source import Source, Split
from datamodules.tokenization import Encoder


class SupervisedDataModule(LightningDataModule):
    """Encoded rows by split, in batches whose rows are of similar length."""

    def __init__(self, source: Source, encoder: Encoder, batch_size: int, seed: int):
        super().__init__()
        self.encoder = encoder
        self.batch_size = batch_size
        self.seed = seed
        self.rows = {split: self.encode(source, split) for split in ("train", "val")}

    @abstractmethod
    def encode(self, source: Source, split: Split) -> list[Any]:
        """A split's rows as ids."""

    @abstractmethod
    def length(self, row: Any) -> int:
        """How many tokens a row needs."""

    @abstractmethod
    def collate(self, rows: list[Any]) -> dict[str, Tensor]:
        """A batch of rows, padded."""

    def train_dataloader(self) -> DataLoader:
        lengths = [self.length(row) for row in self.rows["train"]]
        place = rank_and_world_size(self)
        sampler = EpochSampler(lengths, self.batch_size, self.seed, *place)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def _loader(self, split: Split, sampler: EpochSampler | None = None) -> DataLoader:
        return DataLoader(
            self.rows[split],
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=self.collate,
        )
