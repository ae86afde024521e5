"""What demonstrations and preferences share: their rows come in batches of similar length."""

from itertools import pairwise

import pytest
import torch

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.preferences import PreferenceDataModule
from datamodules.records import DataError
from tests.lightning_modules.supervised_parts import MIXED, ROOM, Given

KINDS = (DemonstrationDataModule, PreferenceDataModule)


@pytest.fixture(params=KINDS)
def data(request, world, encoder):
    return request.param(world, encoder, 8, ROOM, 0)


@pytest.fixture(params=[(kind, rows) for kind in KINDS for rows in ("world", "mixed")], ids=str)
def small(request, world, encoder):
    """Of a source, in micro-batches of any budget: small(tokens)."""
    kind, rows = request.param
    source = world if rows == "world" else Given(MIXED * 3)
    return lambda tokens: kind(source, encoder, 16, tokens, 0)


def padded(data, order) -> int:
    """How many slots the rows need in this order, padding included."""
    size, rows = data.batch_size, data.rows["train"]
    batches = (order[i : i + size] for i in range(0, len(order), size))
    return sum(slots(data.collate([rows[i] for i in b])) for b in batches)


def slots(part) -> int:
    """Tokens of a micro-batch as whole sequences, padding included."""
    ids = part["input_ids"]
    together = ids.shape[1] + (part["prompt_ids"].shape[1] if "prompt_ids" in part else 0)
    return len(ids) * together


def test_the_length_of_a_row_is_what_it_needs_in_a_batch(data):
    for row in data.rows["train"][:20]:
        part = data.collate([row])
        assert data.length(row) * data.sequences(row) == slots(part)


def test_batches_of_similar_length_save_padding(data):
    count = len(data.rows["train"])
    generator = torch.Generator().manual_seed(0)
    random = padded(data, torch.randperm(count, generator=generator).tolist())
    sampled = sum(slots(part) for batch in data.train_dataloader() for part in batch)
    least = padded(data, sorted(range(count), key=lambda i: data.length(data.rows["train"][i])))
    # Most of what sorting all rows would save.
    assert random - sampled > 0.5 * (random - least) > 0
    assert sampled == padded(data, list(data.train_dataloader().sampler))


def test_held_out_batches_come_once_in_their_own_order(data):
    rows = data.rows["val"]
    for start, (part,) in zip(range(0, len(rows), 8), data.val_dataloader(), strict=True):
        expected = data.collate(sorted(rows[start : start + 8], key=data.length))
        assert torch.equal(part["input_ids"], expected["input_ids"])


@pytest.mark.parametrize("budget", [1, 60, 150, 400, ROOM])
def test_micro_batches_hold_every_row_once_within_the_budget(small, budget):
    data = small(budget)
    rows = data.rows["train"][:16]
    parts = list(data.micro_batches(rows))
    assert sorted(map(repr, rows)) == sorted(repr(row) for part in parts for row in part)
    for part in parts:
        needed = sum(map(data.sequences, part)) * max(map(data.length, part))
        assert needed <= budget or len(part) == 1
        assert data.length(part[0]) == min(map(data.length, part))
    # None is smaller than it must be: the next row would not have fitted in.
    for part, following in pairwise(parts):
        together = [*part, following[0]]
        needed = sum(map(data.sequences, together)) * data.length(following[0])
        assert needed > budget


def test_the_budget_is_kept_by_what_goes_through_the_model(small):
    data = small(300)
    for batch in data.train_dataloader():
        for part in batch:
            real = sum(x.numel() for name, x in part.items() if name in ("input_ids", "prompt_ids"))
            rows = len(part.get("resampled", part["input_ids"]))
            assert real <= 300 or rows == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_of_nothing_is_refused(kind, world, encoder):
    with pytest.raises(DataError, match=r"algo\.micro_batch_tokens=0: must be at least 1"):
        kind(world, encoder, 8, 0, 0)
