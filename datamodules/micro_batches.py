"""What demonstrations and preferences share: rows that are encoded once, and their loaders."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.records import DataError
from datamodules.row_order import EpochSampler, rank_and_world_size
from datamodules.sources.source import Source, Split
from datamodules.tokenization.encoder import Encoder


class SupervisedDataModule(LightningDataModule):
    """Encoded rows by split, in batches whose rows are of similar length.

    A batch is one optimiser step, `batch_size` rows, and comes as a list of micro-batches that hold
    at most `micro_batch_tokens` tokens, padding included (or one row, if that is longer).
    """

    def __init__(
        self, source: Source, encoder: Encoder, batch_size: int, micro_batch_tokens: int, seed: int
    ):
        super().__init__()
        if micro_batch_tokens < 1:
            raise DataError(f"algo.micro_batch_tokens={micro_batch_tokens}: must be at least 1")
        self.encoder = encoder
        self.batch_size = batch_size
        self.micro_batch_tokens = micro_batch_tokens
        self.seed = seed
        self.rows = {split: self.encode(source, split) for split in ("train", "val")}

    @abstractmethod
    def encode(self, source: Source, split: Split) -> list[Any]:
        """A split's rows as ids."""

    @abstractmethod
    def length(self, row: Any) -> int:
        """How many tokens the longest sequence of a row has."""

    def sequences(self, row: Any) -> int:
        """How many sequences a row has."""
        return 1

    @abstractmethod
    def collate(self, rows: list[Any]) -> dict[str, Tensor]:
        """A micro-batch of rows, padded."""

    def micro_batches(self, rows: list[Any]) -> Iterator[list[Any]]:
        """The rows of a batch by length, in parts that keep to the budget of tokens."""
        part: list[Any] = []
        sequences = 0
        for row in sorted(rows, key=self.length):
            sequences += self.sequences(row)
            if part and sequences * self.length(row) > self.micro_batch_tokens:
                yield part
                part, sequences = [], self.sequences(row)
            part.append(row)
        yield part

    def largest(self) -> list[Any]:
        """Of the longest rows for training, those of the micro-batch with the most tokens; the
        longest of them is the last.
        """
        rows = sorted(self.rows["train"], key=self.length)[-self.batch_size :]

        def tokens(part: list[Any]) -> int:
            return sum(map(self.sequences, part)) * self.length(part[-1])

        return max(self.micro_batches(rows), key=tokens)

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
            collate_fn=lambda rows: [self.collate(part) for part in self.micro_batches(rows)],
        )
