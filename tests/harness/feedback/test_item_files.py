"""Items from files as people have them."""

import json
from collections import Counter

import pytest

from datamodules.records import DataError
from harness.feedback.item_files import read_items


def answers(prompt: str, *written: tuple[str, str]) -> dict:
    samples: Counter[str] = Counter()
    rows = []
    for policy, text in written:
        row = {"text": text, "policy": policy, "sample": samples[policy]}
        rows.append(row | {"stopped": True, "tokens": 3})
        samples[policy] += 1
    return {"id": prompt, "prompt": prompt, "answers": rows}


@pytest.fixture
def read(tmp_path):
    """read(kind, *rows): the items of a file, and what was counted."""

    def make(kind: str, *rows: dict):
        path = tmp_path / "items.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        counts: Counter[str] = Counter()
        return read_items(str(path), kind, counts), counts

    return make


def test_answers_of_two_policies_are_compared_sample_by_sample(read):
    row = answers("q", ("x", "a0"), ("x", "a1"), ("y", "b0"), ("y", "b1"))
    items, _ = read("pair", row)
    assert [(i.responses, i.origins) for i in items] == [
        (("a0", "b0"), ("x", "y")),
        (("a1", "b1"), ("x", "y")),
    ]


def test_answers_of_one_policy_are_compared_two_by_two(read):
    items, _ = read("pair", answers("q", *(("x", f"a{i}") for i in range(5))))
    assert [i.responses for i in items] == [("a0", "a1"), ("a2", "a3")]


def test_answers_that_say_the_same_are_not_compared(read):
    same = answers("p", ("x", "a"), ("y", "a"))
    items, counts = read("pair", same, answers("q", ("x", "a"), ("y", "b")))
    assert [i.prompt.text for i in items] == ["q"]
    assert counts["identical"] == 1
    with pytest.raises(DataError, match=r"items\.jsonl: no pair in it \(1 rows, 1 identical\)"):
        read("pair", same)


def test_rankings_and_thumbs_of_the_same_answers(read):
    row = answers("q", ("x", "a"), ("x", "b"), ("y", "c"), ("y", "a"))
    (ranking,), _ = read("ranking", row)
    assert (ranking.responses, ranking.origins) == (("a", "b", "c"), ("x", "x", "y"))
    thumbs, counts = read("thumb", row)
    assert [i.responses for i in thumbs] == [("a",), ("b",), ("c",)]
    assert counts["repeated"] == 1


def test_rows_of_data_files_are_items_whatever_they_say_is_better(read):
    def said(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    talk = [{"role": "user", "content": "q"}]
    items, _ = read(
        "pair",
        {"prompt": "p", "chosen": "a", "rejected": "b", "strength": 0.5},
        {"prompt": talk, "responses": ["a", "b", "c", "d"], "ratings": [1, 2, 3, 4]},
        {"chosen": [*talk, said("x")], "rejected": [*talk, said("y")]},
    )
    assert [(i.prompt.text, i.responses) for i in items] == [
        *(("p", ("a", "b")), ("q", ("a", "b")), ("q", ("c", "d")), ("q", ("x", "y")))
    ]
    (thumb,), _ = read("thumb", {"prompt": "p", "response": "a", "label": True})
    assert thumb.responses == ("a",)


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("pair", {"prompt": "p", "response": "a"}, "line 1: has 1 answer, and a pair needs 2"),
        ("ranking", {"prompt": "p", "chosen": "a", "rejected": "b"}, "a ranking needs 3"),
        ("pair", {"prompt": "p", "text": "a"}, "line 1: has none of 'answers'"),
        ("ranking", {"prompt": "p", "responses": list("abcdefghij")}, "a ranking at most 9"),
        ("pair", {"prompt": "p", "answers": ["a", "b"]}, "line 1: "),
        ("pair", {"prompt": "p", "chosen": "a", "rejected": None}, "column 'rejected'"),
    ],
)
def test_a_row_that_cannot_be_an_item_is_named_with_its_place(read, kind, row, said):
    with pytest.raises(DataError, match=r"items\.jsonl, line 1") as caught:
        read(kind, row)
    assert said in str(caught.value)
