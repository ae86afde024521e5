from itertools import chain

import numpy as np
import pytest

from datamodules.records import DataError
from datamodules.row_order import EpochSampler, IterationSampler

LENGTHS = np.random.default_rng(0).integers(1, 60, 500).tolist()


def draw(iteration, **options):
    sampler = IterationSampler(**{"count": 12, "size": 8, "seed": 3, **options})
    sampler.set_epoch(iteration)
    return list(sampler)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("iteration", [0, 1, 5])
def test_the_shares_of_the_ranks_are_the_draw_of_one(world_size, iteration):
    # 8 of 100 within the first lap: no prompt repeats, so equal lists are disjoint shares.
    whole = draw(iteration, count=100)
    shares = [draw(iteration, count=100, rank=r, world_size=world_size) for r in range(world_size)]
    assert {len(share) for share in shares} == {8 // world_size}
    assert sorted(chain(*shares)) == sorted(whole)
    assert len(set(chain(*shares))) == 8


def test_shares_that_cross_a_lap_are_still_the_draw_of_one():
    shares = [draw(1, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(chain(*shares)) == sorted(draw(1))


@pytest.mark.parametrize(("count", "size"), [(12, 8), (12, 12), (5, 8), (7, 3), (1, 2)])
def test_every_prompt_is_used_once_before_any_is_used_again(count, size):
    drawn = list(chain(*(draw(i, count=count, size=size) for i in range(3 * count))))
    laps = [drawn[i : i + count] for i in range(0, len(drawn), count)]
    assert len(laps) == 3 * size
    assert all(sorted(lap) == list(range(count)) for lap in laps)


def test_laps_and_seeds_have_orders_of_their_own():
    laps = [tuple(draw(i, count=20, size=20, seed=s)) for i in range(3) for s in range(3)]
    assert len(set(laps)) == 9


def test_an_iteration_is_the_same_wherever_a_run_resumes():
    sampler = IterationSampler(12, 8, seed=3)
    course = []
    for iteration in range(4):
        sampler.set_epoch(iteration)
        course.append(list(sampler))
    assert course == [draw(i) for i in range(4)]
    assert draw(2) == course[2] != course[3]
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize(("size", "world_size"), [(8, 1), (8, 4), (12, 4)])
def test_a_share_is_as_long_as_it_says_on_every_rank(size, world_size):
    for rank in range(world_size):
        sampler = IterationSampler(100, size, 3, rank, world_size)
        assert len(list(sampler)) == len(sampler)


def test_a_size_that_ranks_cannot_share_is_an_error():
    with pytest.raises(DataError, match="prompts_per_iteration=10"):
        IterationSampler(100, 10, 3, 0, 4)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_is_every_row_once_shared_equally(world_size):
    shares = []
    for rank in range(world_size):
        sampler = EpochSampler(LENGTHS[:13], 3, 5, rank, world_size)
        sampler.set_epoch(2)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == 13 // world_size
    rows = list(chain(*shares))
    assert len(set(rows)) == len(rows) == 13 // world_size * world_size


def test_epochs_and_seeds_have_orders_of_their_own_and_repeat_them():
    def order(epoch, seed):
        sampler = EpochSampler(LENGTHS[:20], 3, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({order(epoch, seed) for epoch in range(3) for seed in range(3)}) == 9
    assert order(1, 1) == order(1, 1)


def test_rows_of_a_batch_are_of_similar_length():
    sampler = EpochSampler(LENGTHS, 8, 0)
    order = list(sampler)
    batches = [[LENGTHS[row] for row in order[i : i + 8]] for i in range(0, len(order), 8)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert sum(LENGTHS) <= padded < 1.15 * sum(LENGTHS)
    assert len(batches[-1]) == 500 % 8
    # Short and long batches come in no order.
    longest = [max(batch) for batch in batches]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.4
