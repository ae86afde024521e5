"""Thumbs in files: the shapes that people write, what is unclear, what is counted."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError, Demonstration, Message, Preference, Prompt, Thumb
from datamodules.sources.files import Files
from datamodules.sources.landmarks import EXPECTED, Landmarks

SPLITS = ("train", "val")
USER, SAID = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
OTHER = {"prompt": "Who?", "response": "Me.", "label": False}


def written(folder, rows, name="thumbs.jsonl"):
    path = folder / name
    if name.endswith(".csv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder, rows, name="thumbs.jsonl", **options):
    return Files(path=str(written(folder, rows, name)), **options)


def thumbs(source):
    return {t.prompt.text: t for split in SPLITS for t in source.thumbs(split)}


def refused(folder, rows, name="thumbs.jsonl"):
    with pytest.raises(DataError) as error:
        read(folder, rows, name)
    return str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "response": "Because.", "label": True},
        {"prompt": "Why?", "completion": "Because.", "label": True},  # TRL
        {"prompt": [USER], "completion": [SAID], "label": True},
        {"prompt": "Why?", "completion": SAID, "label": True},
        {"messages": [USER, SAID], "label": True},  # LLaMA-Factory
        {"instruction": "Why?", "input": "", "output": "Because.", "kto_tag": True},
        {
            "conversations": [
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "Because."},
            ],
            "kto_tag": True,
        },
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "response": "Because.", "label": True},
    ],
)
@pytest.mark.parametrize("name", ["thumbs.jsonl", "thumbs.parquet"])
def test_every_shape_of_a_thumb_is_the_same_thumb(row, name, tmp_path):
    rows = [row, row | {"label": None}] if name.endswith("parquet") else [row]
    assert thumbs(read(tmp_path, [*rows, OTHER]))["Why?"] == Thumb(
        Prompt.from_text("Why?"), "Because.", liked=True
    )


def test_earlier_turns_and_a_system_column_belong_to_the_prompt(tmp_path):
    turns = [USER, SAID, {"role": "user", "content": "So?"}]
    answer = {"role": "assistant", "content": "So it is."}
    row = {"messages": [*turns, answer], "label": 0, "system": "Be brief."}
    (found,) = (t for t in thumbs(read(tmp_path, [row, OTHER])).values() if "So?" in t.prompt.text)
    assert found.prompt.messages[0] == Message("system", "Be brief.")
    assert found.prompt.messages[1:] == tuple(Message(**turn) for turn in turns)
    assert (found.response, found.liked) == ("So it is.", False)


UP = (True, 1, 1.0, "true", "True", "1", "+1", "yes", "up", "thumbs_up", "thumb_up", "Thumbs up")
UP += ("good", "liked", "positive", "desirable", "👍")
DOWN = (False, 0, 0.0, "false", "FALSE", "0", "no", "down", "thumbs_down", "bad", "disliked", "👎")
DOWN += (-1, "-1", "negative", "undesirable")


@pytest.mark.parametrize("label", [*UP, *DOWN])
def test_labels_as_people_write_them(label, tmp_path):
    row = {"prompt": "Why?", "response": "Because.", "label": label}
    expected = any(label is one for one in UP)
    assert thumbs(read(tmp_path, [row, OTHER | {"label": "no"}]))["Why?"].liked == expected


@pytest.mark.parametrize("label", [2, 5, 0.5, "maybe", "4 stars", "A", [True], {"up": 1}])
def test_an_unclear_label_is_an_error_with_its_place(label, tmp_path):
    told = refused(tmp_path, [OTHER, {"prompt": "Why?", "response": "Because.", "label": label}])
    assert "line 2, column 'label'" in told
    assert "true or false" in told


def test_a_down_that_is_written_in_two_ways_is_an_error(tmp_path):
    """Where a file has -1, 0 may say that nobody voted."""
    rows = [
        {"prompt": f"Why {i}?", "response": "So.", "label": x} for i, x in enumerate((1, -1, 0))
    ]
    told = refused(tmp_path, rows)
    assert "line 3, column 'label'" in told
    assert "which of 0 and -1" in told


def test_a_table_may_hold_pairs_and_thumbs_with_empty_fields(tmp_path):
    rows = [
        {"prompt": "a?", "chosen": "A.", "rejected": "B.", "response": None, "label": None},
        {"prompt": "b?", "chosen": None, "rejected": None, "response": "C.", "label": 1},
    ]
    for name in ("both.csv", "both.parquet", "both.jsonl"):
        source = read(tmp_path, rows, name)
        assert thumbs(source) == {"b?": Thumb(Prompt.from_text("b?"), "C.", liked=True)}
        pairs = [pair for split in SPLITS for pair in source.preferences(split)]
        assert pairs == [Preference(Prompt.from_text("a?"), "A.", "B.")]


def test_thumbs_stand_beside_rankings_too_and_the_names_of_columns_can_be_given(tmp_path):
    rows = [
        {"prompt": "a?", "responses": ["A.", "B."], "ratings": [2, 1]},
        {"prompt": "b?", "said": "C.", "ok": "no"},
    ]
    source = read(tmp_path, rows, columns={"response": "said", "label": "ok"})
    assert thumbs(source)["b?"] == Thumb(Prompt.from_text("b?"), "C.", liked=False)
    assert sum(len(source.comparisons(split)) for split in SPLITS) == 1


def test_a_prompt_is_held_out_with_all_its_thumbs_and_pairs(tmp_path):
    rows = [{"prompt": f"{i % 20}?", "response": f"{i}.", "label": i % 3 == 0} for i in range(80)]
    rows += [{"prompt": f"{i}?", "chosen": "A.", "rejected": "B."} for i in range(20)]
    source = read(tmp_path, rows, held_out=0.2)
    train, val = (set(source.prompts(split)) for split in SPLITS)
    assert len(val) == 4
    assert not train & val
    assert len(source.thumbs("val")) == 16
    assert len(source.comparisons("val")) == 4
    assert read(tmp_path, rows[:100], limit=10).counts["rows"] == 10


def test_what_is_empty_or_without_a_thumb_is_left_out_and_the_rest_counted(tmp_path):
    one = {"prompt": "Why?", "response": "Because.", "label": True}
    rows = [
        OTHER,
        one,
        one,
        one | {"label": False},
        one | {"response": " "},
        one | {"prompt": ""},
        one | {"label": None},
        one | {"label": ""},
        one | {"label": "n/a"},
    ]
    source = read(tmp_path, rows)
    assert source.counts == {
        "rows": 9,
        "empty": 2,
        "without a thumb": 3,
        "contradictory thumbs": 1,
        "repeated thumbs": 1,
    }
    assert sum(len(source.thumbs(split)) for split in SPLITS) == 4


def test_what_was_liked_is_a_demonstration(tmp_path):
    rows = [{"prompt": "a?", "response": f"{i}.", "label": i == 1} for i in range(3)]
    source = read(tmp_path, [*rows, OTHER])
    found = [d for split in SPLITS for d in source.demonstrations(split)]
    assert found == [Demonstration(Prompt.from_text("a?"), "1.")]


def test_a_single_response_without_a_label_says_what_is_missing(tmp_path):
    told = refused(tmp_path, [{"messages": [USER, SAID]}])
    assert "a thumb a 'label' (true or false)" in told


def test_the_identity_of_files_without_thumbs_is_what_it_was(tmp_path):
    rows = [{"prompt": f"{i}?", "chosen": "A.", "rejected": "B."} for i in range(3)]
    names = ("prompt", "chosen", "rejected", "strength", "responses", "ratings", "system")
    assert read(tmp_path, rows).identity()["columns"] == {name: name for name in names}
    said = read(tmp_path, rows, columns={"response": "said"}).identity()["columns"]
    assert said["response"] == "said"


def test_landmarks_have_thumbs_of_known_noise():
    world = Landmarks(train_pairs=0, val_pairs=0, train_thumbs=4000, val_thumbs=10)
    found = world.thumbs("train")
    assert found == world.thumbs("train")
    assert world.comparisons("train") == []
    assert (len(found), len(world.thumbs("val"))) == (4000, 10)
    for worth in (0.0, 1.0):
        here = [t for t in found if world.gold(t.prompt, t.response) == worth]
        up = {round(t.probability if t.liked else 1 - t.probability, 12) for t in here}
        assert len(up) == 1
        (p,) = up
        assert (p > 0.9) == (worth > EXPECTED)
        share = sum(t.liked for t in here) / len(here)
        assert abs(share - p) < 4 * (p * (1 - p) / len(here)) ** 0.5


def test_landmarks_without_thumbs_are_what_they_were():
    world = Landmarks()
    assert "train_thumbs" not in world.identity()
    assert world.thumbs("train") == []
    with pytest.raises(DataError, match=r"data\.train_pairs=0: must be at least 1"):
        Landmarks(train_pairs=0)
