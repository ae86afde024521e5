"""Comparisons from further files: they teach reward models, and change nothing else."""

import json

import pytest

from datamodules.added import add_feedback
from datamodules.preferences import PreferenceDataModule
from datamodules.records import DataError, Preference, Prompt
from datamodules.sources.landmarks import Landmarks


@pytest.fixture
def source():
    return Landmarks(train_demonstrations=20, train_pairs=30, val_pairs=10)


def file_of(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pair(prompt, chosen="Good.", rejected="Bad."):
    return {"prompt": prompt.text, "chosen": chosen, "rejected": rejected, "annotator": "me"}


def test_reward_models_learn_from_them_and_nothing_else_does(source, encoder, tmp_path):
    def all_else():
        splits = [
            [part(s) for s in ("train", "val")]
            for part in (
                source.prompts,
                source.demonstrations,
                source.comparisons,
                source.preferences,
            )
        ]
        return splits, source.texts(), source.identity(), source.taught("val")

    before, own = all_else(), source.taught("train")
    asked = source.prompts("train")[:3]
    add_feedback(source, file_of(tmp_path / "more.jsonl", map(pair, asked)))
    assert all_else() == before
    expected = [Preference(prompt, "Good.", "Bad.") for prompt in asked]
    assert source.taught("train") == [*own, *expected]
    assert source.counts["rows of data.more"] == 3
    rows = PreferenceDataModule(source, encoder, 8, 4096, seed=0).rows["train"]
    assert len(rows) == len(own) + 3


def test_no_prompt_that_is_held_out_is_learned_from(source, tmp_path):
    known, held_out = source.prompts("train")[0], source.prompts("val")[0]
    # One that only looks like a held-out one is another.
    rows = [pair(known), pair(held_out), pair(Prompt.from_text(held_out.text + " "))]
    add_feedback(source, file_of(tmp_path / "more.jsonl", rows))
    taught = {c.prompt for c in source.added.feedback}
    assert known in taught
    assert held_out not in taught
    assert len(taught) == 2
    assert source.counts["of data.more: prompt is held out"] == 1
    with pytest.raises(DataError, match=r"data\.more=.*: the prompts of all 1 rows are held out"):
        add_feedback(source, file_of(tmp_path / "leak.jsonl", [pair(held_out)]))


def test_files_are_told_by_their_contents(source, tmp_path):
    prompt = source.prompts("train")[0]
    identities = []
    for name, chosen in (("a", "One."), ("b", "One."), ("c", "Two.")):
        add_feedback(source, file_of(tmp_path / f"{name}.jsonl", [pair(prompt, chosen)]))
        identities.append(source.added.identity)
    assert identities[0] == identities[1] != identities[2]


def test_a_row_that_is_none_is_named(source, tmp_path):
    file = file_of(tmp_path / "more.jsonl", [pair(source.prompts("train")[0]), {"prompt": "x"}])
    with pytest.raises(DataError, match=r"more\.jsonl, line 2"):
        add_feedback(source, file)
    with pytest.raises(DataError, match=r"nothing\.jsonl: no such file"):
        add_feedback(source, str(tmp_path / "nothing.jsonl"))
