from itertools import chain, pairwise
from types import SimpleNamespace

import pytest

from datamodules.prompts import IterationSampler, PromptDataModule, _spread
from datamodules.records import DataError, Prompt


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


def make(world, encoder, **options):
    options = {
        "prompts_per_iteration": 8,
        "val_prompts": 10,
        "val_batch_size": 4,
        "seed": 0,
        **options,
    }
    return PromptDataModule(world, encoder, **options)


def on_rank(data, rank, world_size):
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    return data


def records(loader):
    return [prompt for batch in loader for prompt in batch["prompts"]]


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_are_prompts_padded_on_the_left(world, encoder, split):
    batch = next(iter(getattr(make(world, encoder), f"{split}_dataloader")()))
    ids, mask = batch["prompt_ids"], batch["prompt_mask"]
    assert ids.shape == mask.shape
    assert not mask.all()
    assert mask[:, -1].all()
    assert (mask.long().diff() >= 0).all()
    rows = [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
    assert rows == encoder.prompts(batch["prompts"])
    assert set(batch["prompts"]) <= set(world.prompts(split))


def test_a_training_epoch_is_one_batch_and_the_next_one_differs(world, encoder):
    loader = make(world, encoder).train_dataloader()
    first = records(loader)
    assert len(loader) == 1
    assert len(set(first)) == len(first) == 8
    assert records(loader) == first
    loader.sampler.set_epoch(1)
    assert not set(records(loader)) & set(first)


def test_training_prompts_follow_the_seed(world, encoder):
    a, b, c = (records(make(world, encoder, seed=s).train_dataloader()) for s in (0, 0, 1))
    assert a == b != c


@pytest.mark.parametrize("split", ["train", "val"])
def test_ranks_share_the_prompts(world, encoder, split):
    loader = f"{split}_dataloader"
    whole = records(getattr(make(world, encoder), loader)())
    shares = [records(getattr(on_rank(make(world, encoder), r, 2), loader)()) for r in range(2)]
    assert sorted(chain(*shares), key=str) == sorted(whole, key=str)
    assert len(shares[0]) == len(shares[1])
    assert not set(shares[0]) & set(shares[1])


def test_held_out_prompts_are_as_many_as_asked_for_and_always_the_same(world, encoder):
    data = make(world, encoder)
    prompts = records(data.val_dataloader())
    assert len(prompts) == 10
    assert prompts == records(data.val_dataloader())
    assert prompts == records(make(world, encoder, seed=1).val_dataloader())
    everything = world.prompts("val")
    assert records(make(world, encoder, val_prompts=10**6).val_dataloader()) == everything


@pytest.mark.parametrize(("length", "count"), [(100, 7), (100, 99), (10, 9), (5, 2), (3, 1)])
def test_spread_rows_are_distinct_in_order_and_evenly_spaced(length, count):
    rows = [Prompt.from_text(str(i)) for i in range(length)]
    places = [int(prompt.text) for prompt in _spread(rows, count)]
    assert len(places) == count
    assert places[0] == 0
    gaps = {b - a for a, b in pairwise(places)}
    if count > 1:
        assert places[-1] == length - 1
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [3, 4])
def test_spread_leaves_few_rows_alone(count):
    rows = [Prompt.from_text(str(i)) for i in range(3)]
    assert _spread(rows, count) == rows
