"""What demonstrations and preferences share: their rows come in batches of similar length."""

import pytest
import torch

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.preferences import PreferenceDataModule


@pytest.fixture(params=[DemonstrationDataModule, PreferenceDataModule])
def data(request, world, encoder):
    return request.param(world, encoder, 8, 0)


def padded(data, order) -> int:
    """How many slots the rows need in this order, padding included."""
    size, rows = data.batch_size, data.rows["train"]
    batches = (order[i : i + size] for i in range(0, len(order), size))
    return sum(data.collate([rows[i] for i in b])["input_ids"].numel() for b in batches)


def test_the_length_of_a_row_is_what_it_needs_in_a_batch(data):
    for row in data.rows["train"][:20]:
        assert data.length(row) == data.collate([row])["input_ids"].shape[1]


def test_batches_of_similar_length_save_padding(data):
    count = len(data.rows["train"])
    generator = torch.Generator().manual_seed(0)
    random = padded(data, torch.randperm(count, generator=generator).tolist())
    sampled = sum(batch["input_ids"].numel() for batch in data.train_dataloader())
    least = padded(data, sorted(range(count), key=lambda i: data.length(data.rows["train"][i])))
    # Most of what sorting all rows would save.
    assert random - sampled > 0.5 * (random - least) > 0
    assert sampled == padded(data, list(data.train_dataloader().sampler))


def test_held_out_rows_come_once_in_their_own_order(data):
    batches = list(data.val_dataloader())
    expected = [
        data.collate(data.rows["val"][i : i + 8]) for i in range(0, len(data.rows["val"]), 8)
    ]
    for batch, whole in zip(batches, expected, strict=True):
        assert torch.equal(batch["input_ids"], whole["input_ids"])
