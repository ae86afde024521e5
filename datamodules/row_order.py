"""The order of rows: a function of (seed, epoch, rank) alone, so that resuming repeats it."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import Sampler

from datamodules.records import DataError


def rank_and_world_size(data: LightningDataModule) -> tuple[int, int]:
    """Which of how many processes this one is; (0, 1) outside a Trainer."""
    trainer = data.trainer
    return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)


# How many batches' rows are sorted by length together: enough to save most of the padding, few
# enough that batches stay random.
STRETCH = 16


class EpochSampler(Sampler[int]):
    """All rows once an epoch, in another order each time; every rank has an equal share.

    Rows of similar length stand in the same batch, so that little of it is padding: a random order
    is sorted by length within stretches of STRETCH batches, then the batches are shuffled. Up to
    world_size - 1 rows are left out of an epoch, others in the next. `first` rows are passed over
    by the next iteration, which goes on within an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // self.world_size

    def __iter__(self) -> Iterator[int]:
        first, self.first = self.first, 0
        return islice(self._order(), first, None)

    def _order(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        share = rng.permutation(len(self.lengths))[self.rank :: self.world_size][: len(self)]
        batches = []
        for start in range(0, len(share), STRETCH * self.batch_size):
            stretch = share[start : start + STRETCH * self.batch_size]
            stretch = stretch[np.argsort(self.lengths[stretch], kind="stable")]
            batches += [
                stretch[i : i + self.batch_size] for i in range(0, len(stretch), self.batch_size)
            ]
        # A short batch stays last: a loader cuts the rows into batches by their number.
        full = len(share) // self.batch_size
        for i in [*rng.permutation(full), *range(full, len(batches))]:
            yield from batches[i].tolist()


class IterationSampler(Sampler[int]):
    """The prompts of one iteration, which is an epoch for Lightning.

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
        """Called by Lightning."""
        self.iteration = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def __iter__(self) -> Iterator[int]:
        places = np.arange(self.iteration * self.size, (self.iteration + 1) * self.size)
        orders: dict[int, np.ndarray] = {}
        for place in places[self.rank :: self.world_size]:
            lap, position = divmod(int(place), self.count)
            if lap not in orders:
                orders[lap] = np.random.default_rng([self.seed, lap]).permutation(self.count)
            yield int(orders[lap][position])
