from itertools import chain, pairwise
from types import SimpleNamespace

import pytest

from datamodules.prompts import PromptDataModule, spread
from datamodules.records import Prompt


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
    places = [int(prompt.text) for prompt in spread(rows, count)]
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
    assert spread(rows, count) == rows
