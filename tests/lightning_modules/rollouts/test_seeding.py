"""Noise depends on what it is for, and on nothing else."""

from itertools import product

import torch

from lightning_modules.rollouts.seeding import Stream, generator


def noise(*key):
    return tuple(torch.rand(4, generator=generator(*key), dtype=torch.float64).tolist())


def test_same_key_same_noise_whatever_happened_before():
    first = noise(7, Stream.SAMPLING, 3, 1)
    torch.manual_seed(123)
    noise(7, Stream.SAMPLING, 4, 1)
    assert noise(7, Stream.SAMPLING, 3, 1) == first


def test_every_part_of_the_key_matters():
    keys = list(product((0, 1, 2), Stream, (0, 1, 2), (0, 1, 2)))
    assert len({noise(*key) for key in keys}) == len(keys)


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    noise(0, Stream.EVALUATION, 0, 0)
    assert torch.equal(torch.get_rng_state(), state)
