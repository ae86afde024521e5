"""Pairs as micro-batches: what is read, what is known of it, and what is left out."""

import pytest
import torch

from datamodules.preferences import WORTH_SHARING, PreferenceDataModule
from datamodules.records import DataError
from datamodules.tokenization.encoder import Encoder
from tests.lightning_modules.supervised_parts import LONG_PROMPT, ROOM, Given, pair


def make(encoder, rows, val=(), seed=0, **options):
    source = Given(rows, val, options.pop("too_long", "cut"))
    return PreferenceDataModule(source, encoder, 4, ROOM, seed, **options)


def conversations(encoder, part):
    """The sequences of a micro-batch as text, prompts that are shared included."""
    rows = [ids[mask] for ids, mask in zip(part["input_ids"], part["attention_mask"], strict=True)]
    if "prompt_ids" in part:
        prompts = [
            ids[mask] for ids, mask in zip(part["prompt_ids"], part["prompt_mask"], strict=True)
        ]
        owners = part["comparison_of_response"]
        rows = [torch.cat([prompts[g], row]) for g, row in zip(owners, rows, strict=True)]
    return [encoder.decode(row) for row in rows]


def said(encoder, part):
    """Each pair as the texts of its two conversations."""
    texts = conversations(encoder, part)
    sides = (part["chosen"].tolist(), part["rejected"].tolist())
    return [(texts[i], texts[j]) for i, j in zip(*sides, strict=True)]


def whole(pairs):
    return sorted((p.prompt.text + p.chosen, p.prompt.text + p.rejected) for p in pairs)


def test_pairs_say_which_conversation_was_preferred(encoder):
    pairs = [pair("Yes.", "No, never.", "Is it?"), pair("In Rome.", "In Paris.", "Where?")]
    ((part,),) = make(encoder, pairs).val_dataloader()
    assert sorted(said(encoder, part)) == whole(pairs)
    assert len(part["input_ids"]) == 4
    assert part["comparison"].tolist() == [0, 1]


@pytest.mark.parametrize("shared", [True, False])
def test_rows_are_prompt_and_response_padded_on_the_right(encoder, shared, monkeypatch):
    monkeypatch.setattr("datamodules.preferences.WORTH_SHARING", -9.0 if shared else 1.0)
    prompts = (LONG_PROMPT, "Why?")
    pairs = [pair("Yes.", "No, never.", prompts[0]), pair("Because.", "?", prompts[1])]
    data = make(encoder, pairs)
    ((part,),) = data.val_dataloader()
    assert (part["attention_mask"].long().diff() <= 0).all()
    assert shared == ("prompt_ids" in part)
    rows = sorted(data.rows["val"], key=data.length)
    for g, row in enumerate(rows):
        for a, response in enumerate(row.responses):
            ids = part["input_ids"][2 * g + a][part["attention_mask"][2 * g + a]].tolist()
            assert ids == (response if shared else row.prompt + response)
        if shared:
            assert part["prompt_ids"][g][part["prompt_mask"][g]].tolist() == row.prompt
    if shared:
        assert (part["prompt_mask"].long().diff() >= 0).all()
        assert part["comparison_of_response"].tolist() == [0, 0, 1, 1]


def test_prompts_are_shared_where_that_saves_enough(encoder):
    """At least WORTH_SHARING of the tokens that go through the model, padding included."""
    roomy, seen = Encoder(encoder.tokenizer, 999, 999), set()
    for words in range(12):
        no = "No, my friend," + " it is not so" * 8 * (12 - words)
        data = make(roomy, [pair("Yes.", no, "Is it" + " very" * words + " so?")])
        ((part,),) = data.val_dataloader()
        (row,) = data.rows["val"]
        prompt, longest = len(row.prompt), max(map(len, row.responses))
        saves_enough = prompt + 2 * longest <= (1 - WORTH_SHARING) * 2 * (prompt + longest)
        assert ("prompt_ids" in part) == saves_enough
        seen.add(saves_enough)
    assert seen == {True, False}


def test_lengths_are_characters_of_the_texts(encoder):
    ((part,),) = make(encoder, [pair("aaa", "b"), pair("ab", "ba")]).val_dataloader()
    lengths = torch.stack([part["chosen_length"], part["rejected_length"]], dim=1)
    assert sorted(lengths.tolist()) == [[2, 2], [3, 1]]


@pytest.mark.parametrize("name", ["probability", "strength"])
def test_what_nobody_knows_is_nan(encoder, name):
    pairs = [pair("a", "b", **{name: 0.0}), pair("c", "d e"), pair("f g", "h i j", **{name: 0.8})]
    ((part,),) = make(encoder, pairs).val_dataloader()
    assert part[name].isnan().tolist() == [False, True, False]
    assert part[name][::2].tolist() == pytest.approx([0.0, 0.8])
    other = {"probability": "strength", "strength": "probability"}[name]
    assert part[other].isnan().all()


def test_a_cluster_is_a_prompt(encoder):
    pairs = [pair(), pair("a", "b", "Who?"), pair("Fine.", "Well."), pair("c", "d", "When?")]
    clusters = [row.cluster for row in make(encoder, pairs).rows["val"]]
    assert clusters == [0, 1, 0, 2]


def test_pairs_that_truncation_makes_equal_are_dropped_and_counted(encoder):
    stem = "The Taj Mahal is in"
    length = len(encoder.tokenizer(stem)["input_ids"])
    short = Encoder(encoder.tokenizer, 32, length)
    kept, equal = pair("Agra.", "Rome."), pair(f"{stem} Agra.", f"{stem} Rome.")
    data = make(short, [equal, kept, equal], [kept])
    assert {split: len(rows) for split, rows in data.rows.items()} == {"train": 1, "val": 1}
    ((part,),) = data.train_dataloader()
    assert said(short, part) == [("Why?Agra.", "Why?Rome.")]
    assert data.counts == {"train comparisons identical after truncation": 2}
    assert len(make(encoder, [equal, kept, equal]).rows["train"]) == 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_pair_left_is_an_error_that_names_the_option(encoder, split):
    short = Encoder(encoder.tokenizer, 32, 1)
    rows = {"train": [pair()], "val": [pair()]}
    rows[split] = [pair("Yes, a.", "Yes, b.")]
    with pytest.raises(DataError, match=r"data\.max_response_tokens=1") as error:
        make(short, rows["train"], rows["val"])
    assert split in str(error.value)


def test_what_is_too_long_is_cut_or_left_out_as_the_source_says(encoder):
    short = Encoder(encoder.tokenizer, 16, 8)
    fits = pair("Yes.", "No.", "Is it?")
    long_response = pair("Yes.", "No, it is not at all so, my friend.", "Is it?")
    long_prompt = pair("Yes.", "No.", LONG_PROMPT)
    rows = [fits, long_response, long_prompt]
    cut = make(short, rows)
    assert len(cut.rows["train"]) == 3
    assert not cut.counts
    left = make(short, rows, too_long="leave_out")
    assert [row.prompt for row in left.rows["train"]] == short.prompts([fits.prompt])
    assert left.counts == {"train comparisons too long": 2, "val comparisons too long": 2}


def test_an_epoch_holds_every_pair_once_in_an_order_of_the_seed(encoder, world):
    def epoch(seed):
        data = make(encoder, world.preferences("train"), seed=seed)
        return [
            x for batch in data.train_dataloader() for part in batch for x in said(encoder, part)
        ]

    first = epoch(0)
    assert first == epoch(0) != epoch(1)
    assert sorted(first) == sorted(epoch(1))


def test_the_world_reaches_the_batches_unchanged(encoder, world):
    roomy = Encoder(encoder.tokenizer, 128, 128)
    data = PreferenceDataModule(world, roomy, 7, ROOM, seed=0)
    pairs = world.preferences("val")
    parts = [part for batch in data.val_dataloader() for part in batch]
    assert sorted(x for part in parts for x in said(roomy, part)) == whole(pairs)
    probability = torch.cat([part["probability"] for part in parts])
    assert sorted(probability.tolist()) == pytest.approx(sorted(p.probability for p in pairs))
    assert not torch.cat([part["tied"] for part in parts]).any()
