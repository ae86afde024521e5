"""Randomness as a function of what it is for, so that a resumed run repeats an unbroken one."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What the noise is for; no two uses share one."""

    SAMPLING = 0
    MINIBATCHES = 1
    EVALUATION = 2
    REFERENCE_RESPONSES = 3
    SELFCHECK = 4
    DROPOUT = 5
    ANSWERS = 6
    PAIRS = 7  # of answers, to be labelled
    LABELS = 8
    JUDGED_AGAINST = 9


def generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """A CPU generator that depends on (seed, stream, place) alone; place is (iteration, rank)."""
    state = np.random.SeedSequence([seed, stream, *place]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


# The noise of a batch of prompts: one generator for all of it, or one for each prompt or response.
Noise = torch.Generator | Sequence[torch.Generator]


def prompt_noise(seed: int, stream: Stream, places: Sequence[int]) -> list[torch.Generator]:
    """A generator for each prompt, by its place among all: what is drawn for a prompt depends
    neither on the batch that it comes in nor on the rank that it comes to.
    """
    return [generator(seed, stream, place) for place in places]


def uniforms(noise: Noise, prompts: int, samples: int, tokens: int) -> Tensor:
    """(prompts x samples, tokens) numbers in [0, 1), float64, a prompt's samples side by side."""
    if isinstance(noise, torch.Generator):
        return torch.rand(prompts * samples, tokens, generator=noise, dtype=torch.float64)
    each = prompts * samples // len(noise)
    rows = [torch.rand(each, tokens, generator=one, dtype=torch.float64) for one in noise]
    return torch.cat(rows)
