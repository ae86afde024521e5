"""What is counted of rows that stay."""

from datamodules.records import Preference, Prompt, Ranking
from datamodules.sources.cleaning import CONTRADICTORY, REPEATED, agreement

HERE, THERE = Prompt.from_text("here"), Prompt.from_text("there")


def test_pairs_that_are_judged_both_ways_are_counted_once():
    pairs = [
        Preference(HERE, "a", "b"),
        Preference(HERE, "b", "a"),
        Preference(HERE, "b", "a"),
        Preference(THERE, "a", "b"),
        Preference(HERE, "a", "c"),
    ]
    assert agreement(pairs) == {CONTRADICTORY: 1, REPEATED: 1}


def test_rankings_contradict_each_other_by_their_pairs():
    rankings = [
        Ranking(HERE, ("a", "b", "c"), (3, 2, 1)),
        Ranking(HERE, ("a", "b", "c"), (1, 2, 3)),
    ]
    assert agreement(rankings) == {CONTRADICTORY: 3}
    tied = Ranking(HERE, ("a", "b", "c"), (1, 1, 0))
    assert agreement([rankings[0], tied]) == {REPEATED: 2}


def test_pairs_that_agree_are_not_counted():
    assert not agreement([Preference(HERE, "a", "b"), Preference(THERE, "b", "a")])
