"""Randomness as a function of what it is for, so that a resumed run repeats an unbroken one."""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the noise is for; no two uses share one."""

    SAMPLING = 0
    MINIBATCHES = 1
    EVALUATION = 2
    REFERENCE_RESPONSES = 3
    SELFCHECK = 4


def generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """A CPU generator that depends on (seed, stream, place) alone; place is (iteration, rank)."""
    state = np.random.SeedSequence([seed, stream, *place]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
