import pytest

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.tokenization.encoder import Encoder

ROOM = 1_000_000  # tokens: a batch is one micro-batch


@pytest.fixture(scope="module")
def data(world, encoder):
    return DemonstrationDataModule(world, encoder, 16, ROOM, seed=0)


def sequences(loader):
    """The rows of one pass over a loader, without their padding."""
    return [
        tuple(row[mask].tolist())
        for batch in loader
        for part in batch
        for row, mask in zip(part["input_ids"], part["attention_mask"], strict=True)
    ]


def test_rows_are_the_prompt_followed_by_the_response(data, world, encoder):
    rows = world.demonstrations("val")
    prompts = encoder.prompts([row.prompt for row in rows])
    responses = encoder.responses([row.response for row in rows])
    expected = [tuple(p + r) for p, r in zip(prompts, responses, strict=True)]
    batches = [expected[i : i + 16] for i in range(0, len(expected), 16)]
    # Within a batch by length, so that micro-batches hold little padding.
    assert sequences(data.val_dataloader()) == [
        r for rows in batches for r in sorted(rows, key=len)
    ]


def test_the_response_mask_marks_the_response_and_its_stop_token(world, encoder):
    roomy = Encoder(encoder.tokenizer, 32, 64)
    data = DemonstrationDataModule(world, roomy, 16, ROOM, seed=0)
    (batch,) = next(iter(data.val_dataloader()))
    shapes = {tuple(tensor.shape) for tensor in batch.values()}
    assert len(shapes) == 1
    said = [
        encoder.decode(i[m])
        for i, m in zip(batch["input_ids"], batch["response_mask"], strict=True)
    ]
    assert sorted(said) == sorted(row.response for row in world.demonstrations("val")[:16])
    for ids, mask in zip(batch["input_ids"], batch["response_mask"], strict=True):
        assert ids[mask][-1] == encoder.stop_id
        assert (ids[mask] == encoder.stop_id).sum() == 1


def test_padding_is_on_the_right_and_no_part_of_a_response(data):
    (batch,) = next(iter(data.val_dataloader()))
    mask, response = batch["attention_mask"], batch["response_mask"]
    assert not mask.all()
    assert (mask.long().diff() <= 0).all()
    assert (response <= mask).all()
    assert (mask.sum(1) > response.sum(1)).all()


def test_a_response_that_is_cut_does_not_teach_to_stop(world, encoder):
    short = Encoder(encoder.tokenizer, 32, 3)
    data = DemonstrationDataModule(world, short, 16, ROOM, seed=0)
    (batch,) = next(iter(data.val_dataloader()))
    assert (batch["response_mask"].sum(1) == 3).all()
    assert not (batch["input_ids"][batch["response_mask"]] == short.stop_id).any()


def test_an_epoch_holds_every_row_once_in_an_order_of_the_seed(data, world, encoder):
    def epochs(seed):
        loader = DemonstrationDataModule(world, encoder, 16, ROOM, seed=seed)
        loader = loader.train_dataloader()
        first = sequences(loader)
        loader.sampler.set_epoch(1)
        return first, sequences(loader)

    first, second = epochs(0)
    assert (first, second) == epochs(0)
    assert first != second
    assert first != epochs(1)[0]
    rows = sorted(tuple(p + r) for p, r in data.rows["train"])
    assert sorted(first) == sorted(second) == rows
    assert len(rows) == len(world.demonstrations("train"))
