"""Votes as files, and what they say of themselves: against counts by hand."""

import json
from collections import Counter

import pytest

from datamodules.records import Message, Preference, Prompt, Ranking
from datamodules.sources.files import Files
from harness.feedback.export import export, rows_by_kind
from harness.feedback.items import Item
from harness.feedback.report import summary_lines
from harness.feedback.store import Vote
from harness.feedback.summary import Share, summarise
from lightning_modules.metrics.intervals import wilson_interval

TALK = Prompt((Message("system", "Be brief."), Message("user", "A fruit?")))
PAIR = Item.of("pair", TALK, ("An apple.", "A stone."), ("x", "y"))
OTHER = Item.of("pair", Prompt.from_text("A colour?"), ("Blue.", "Loud."), ("x", "y"))
THUMB = Item.of("thumb", Prompt.from_text("A day?"), ("Monday.",), ("x",))
RANKING = Item.of("ranking", Prompt.from_text("A tree?"), ("An oak.", "A cat.", "Wood."))


def vote(item: Item, annotator: str, choice: str, order=(0, 1), seconds: float = 1.0) -> Vote:
    return Vote(item.id, annotator, choice, order, seconds, 0.0)


def rows(*votes: Vote) -> dict:
    return rows_by_kind({item.id: item for item in (PAIR, OTHER, THUMB, RANKING)}, votes)


@pytest.mark.parametrize(
    ("choices", "better", "strength", "both_bad"),
    [
        (["first"], 0, 1.0, False),
        (["second"], 1, 1.0, False),
        (["first", "first", "second"], 0, 1 / 3, False),
        (["second", "tie"], 1, 1 / 2, False),
        (["second", "tie", "both_bad", "skip"], 1, 1 / 3, False),
        (["first", "second"], 0, 0.0, False),
        (["tie"], 0, 0.0, False),
        (["both_bad", "both_bad", "first"], 0, 1 / 3, True),
        (["both_bad"], 0, 0.0, True),
    ],
)
def test_votes_on_a_pair_are_one_row_with_its_strength(choices, better, strength, both_bad):
    names = "abcd"[: len(choices)]
    (row,) = rows(*map(vote, [PAIR] * len(choices), names, choices))["pair"]
    assert row["prompt"] == [m._asdict() for m in TALK.messages]
    assert (row["chosen"], row["rejected"]) == (
        PAIR.responses[better],
        PAIR.responses[1 - better],
    )
    assert (row["chosen_policy"], row["rejected_policy"]) == ("xy"[better], "yx"[better])
    assert row["strength"] == pytest.approx(strength, abs=1e-6)
    assert row.get("both_bad", False) == both_bad
    told = [name for name, said in zip(names, choices, strict=True) if said != "skip"]
    assert row["annotator"] == (told[0] if len(told) == 1 else told)


def test_rankings_are_means_over_annotators_and_thumbs_a_row_each():
    said = rows(
        vote(RANKING, "ann", "0>2>1"),
        vote(RANKING, "bob", "0>1=2"),
        vote(THUMB, "ann", "up"),
        vote(THUMB, "bob", "down"),
    )
    assert [row["ratings"] for row in said["ranking"]] == [[1.0, 0.125, 0.375]]
    assert [(row["label"], row["annotator"]) for row in said["thumb"]] == [
        *((True, "ann"), (False, "bob"))
    ]
    assert said.keys() == {"ranking", "thumb"}


def test_each_kind_has_a_file_that_is_read_as_it_was_meant(tmp_path):
    items = {item.id: item for item in (PAIR, OTHER, THUMB, RANKING)}
    votes = [
        *(vote(PAIR, "ann", "second"), vote(OTHER, "ann", "tie"), vote(THUMB, "ann", "up")),
        vote(RANKING, "ann", "0=2>1"),
    ]
    third = Item.of("pair", Prompt.from_text("A number?"), ("7.", "Much."))
    files = export(
        tmp_path / "l.jsonl", items | {third.id: third}, [*votes, vote(third, "b", "first")]
    )
    assert {file.name: count for file, count in files.items()} == {
        "l.jsonl": 3,
        "l.rankings.jsonl": 1,
        "l.thumbs.jsonl": 1,
    }
    source = Files(path=str(tmp_path / "l.jsonl"), held_out=0.5)
    read = source.comparisons("train") + source.comparisons("val")
    assert source.counts["tie"] == 1
    assert sorted(read, key=str) == sorted(
        [
            Preference(TALK, "A stone.", "An apple.", strength=1.0),
            Preference(third.prompt, "7.", "Much.", strength=1.0),
        ],
        key=str,
    )
    row = json.loads((tmp_path / "l.rankings.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "two.jsonl").write_text(
        "".join(json.dumps(row | {"prompt": p}) + "\n" for p in "ab"), encoding="utf-8"
    )
    source = Files(path=str(tmp_path / "two.jsonl"), held_out=0.5)
    (ranking,) = source.comparisons("train")
    assert isinstance(ranking, Ranking)
    assert dict(zip(ranking.responses, ranking.ratings, strict=True)) == {
        "An oak.": 0.75,
        "A cat.": 0.0,
        "Wood.": 0.75,
    }
    assert source.cautions == []


def test_the_summary_counts_by_hand():
    items = {item.id: item for item in (PAIR, OTHER, RANKING)}
    votes = [
        vote(PAIR, "ann", "first", (0, 1), 2.0),  # the one in the first place
        vote(PAIR, "bob", "first", (1, 0), 4.0),
        vote(OTHER, "ann", "tie", (0, 1), 9.0),
        vote(OTHER, "bob", "second", (1, 0), 3.0),  # in the first place
        vote(RANKING, "ann", "0>1>2", (0, 1, 2), 1.0),
        vote(RANKING, "bob", "0>2>1", (2, 1, 0), 1.0),
        vote(RANKING, "eve", "skip", (2, 1, 0), 1.0),
    ]
    told = summarise(items, votes)
    assert (told.items, told.labels, told.skipped, told.twice) == (3, 6, 1, 3)
    assert told.seconds == 2.5
    # One of two pairs; of the ranking's three, two.
    assert told.agreement == pytest.approx(3 / 5)
    # Labels of both: first x 7, second x 2, tie x 1; two of five things differ.
    counts = Counter(first=7, second=2, tie=1)
    expected = (100 - sum(n * n for n in counts.values())) / (10 * 9)
    assert told.alpha == pytest.approx(1 - (2 / 5) / expected)
    assert told.first_shown == Share(2 / 3, 3)
    assert told.wins == {"x": Share(2.5 / 4, 4), "y": Share(1.5 / 4, 4)}
    ann, bob, eve = told.annotators
    assert (ann.labels, ann.seconds, ann.agreement, ann.first_shown) == (3, 2.0, 0.6, Share(1.0, 1))
    assert (bob.labels, bob.seconds, bob.first_shown) == (3, 3.0, Share(0.5, 2))
    assert (eve.labels, eve.skipped, eve.agreement) == (0, 1, None)
    text = "\n".join(summary_lines(told))
    low, high = wilson_interval(2 / 3, 3)
    assert "6 labels of 3 items by 3 annotators, 1 skipped; 2.5 s a label (median)" in text
    assert "60.0% of the labels of 3 items with several; Krippendorff's alpha" in text
    assert f"first place won 66.7% [{low:.1%}, {high:.1%}] of 3" in text
    assert "x was better than y in 62.5%" in text
