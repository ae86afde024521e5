from types import SimpleNamespace

import pytest
import torch

from datamodules.preferences import PreferenceDataModule
from datamodules.records import DataError, Preference, Prompt
from datamodules.tokenization import Encoder

HALVES = ("chosen", "rejected")


def make(encoder, pairs, val=None, **options):
    splits = {"train": pairs, "val": val or pairs}
    source = SimpleNamespace(comparisons=splits, preferences=splits.__getitem__)
    return PreferenceDataModule(source, encoder, **{"batch_size": 4, "seed": 0, **options})


def pair(chosen="Good.", rejected="Bad.", prompt="Why?", probability=None):
    return Preference(Prompt.from_text(prompt), chosen, rejected, probability)


def conversations(encoder, batch):
    return [
        encoder.decode(ids[mask])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_chosen_rows_come_first_then_rejected_in_the_same_order(encoder):
    pairs = [pair("Yes.", "No, never.", "Is it?"), pair("In Rome.", "In Paris.", "Where?")]
    (batch,) = make(encoder, pairs).val_dataloader()
    texts = [p.prompt.text + getattr(p, half) for half in HALVES for p in pairs]
    assert conversations(encoder, batch) == texts
    assert batch["longer"].shape == batch["probability"].shape == (2,)


def test_rows_are_prompt_and_response_padded_on_the_right(encoder):
    pairs = [pair("Yes.", "No, never at all."), pair("Because.", "?", "How come?")]
    (batch,) = make(encoder, pairs).val_dataloader()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert (mask.long().diff() <= 0).all()
    prompts = encoder.prompts([p.prompt for p in pairs])
    for i, half in enumerate(HALVES):
        answers = encoder.responses([getattr(p, half) for p in pairs])
        for j in range(2):
            row = 2 * i + j
            assert ids[row, mask[row]].tolist() == prompts[j] + answers[j]


@pytest.mark.parametrize(
    ("chosen", "rejected", "longer"), [("aaa", "b", 1.0), ("ab", "ba", 0.5), ("a", "bbb", 0.0)]
)
def test_longer_compares_the_lengths_of_the_texts(encoder, chosen, rejected, longer):
    (batch,) = make(encoder, [pair(chosen, rejected)]).val_dataloader()
    assert batch["longer"].tolist() == [longer]


def test_the_probability_is_nan_where_nobody_knows_it(encoder):
    (batch,) = make(
        encoder, [pair(probability=0.0), pair(), pair(probability=0.8)]
    ).val_dataloader()
    assert batch["probability"].isnan().tolist() == [False, True, False]
    assert batch["probability"][::2].tolist() == pytest.approx([0.0, 0.8])


def test_pairs_that_truncation_makes_equal_are_dropped_and_counted(encoder):
    stem = "The Taj Mahal is in"
    length = len(encoder.tokenizer(stem)["input_ids"])
    short = Encoder(encoder.tokenizer, 32, length)
    kept, equal = pair("Agra.", "Rome."), pair(f"{stem} Agra.", f"{stem} Rome.")
    data = make(short, [equal, kept, equal], val=[kept])
    assert {split: len(rows) for split, rows in data.rows.items()} == {"train": 1, "val": 1}
    (batch,) = data.train_dataloader()
    assert conversations(short, batch) == ["Why?Agra.", "Why?Rome."]
    assert sorted(data.counts.values()) == [0, 2]
    assert data.counts["train pairs identical after truncation"] == 2
    assert len(make(encoder, [equal, kept, equal]).rows["train"]) == 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_pair_left_is_an_error_that_names_the_option(encoder, split):
    short = Encoder(encoder.tokenizer, 32, 1)
    rows = {"pairs": [pair()], "val": [pair()]}
    rows["pairs" if split == "train" else "val"] = [pair("Yes, a.", "Yes, b.")]
    with pytest.raises(DataError, match=r"data\.max_response_tokens=1") as error:
        make(short, **rows)
    assert split in str(error.value)


def test_an_epoch_holds_every_pair_once_in_an_order_of_the_seed(encoder, world):
    def epoch(seed):
        data = make(encoder, world.preferences("train"), seed=seed)
        return [text for batch in data.train_dataloader() for text in conversations(encoder, batch)]

    assert epoch(0) == epoch(0) != epoch(1)
    assert sorted(epoch(0)) == sorted(epoch(1))


def test_the_world_reaches_the_batches_unchanged(encoder, world):
    data = PreferenceDataModule(world, encoder, batch_size=7, seed=0)
    pairs = world.preferences("val")
    batches = list(data.val_dataloader())
    probability = torch.cat([b["probability"] for b in batches])
    assert probability.tolist() == pytest.approx([p.probability for p in pairs])
    assert [b["input_ids"].shape[0] for b in batches] == [2 * len(b["longer"]) for b in batches]
