"""Numbers of own files: which is the best, and which say nothing."""

import math

import pandas
import pytest

from datamodules.records import DataError
from datamodules.sources.ratings import are_ranks, number, oriented, require_best, strength, words


def test_the_best_rating_is_the_highest_after_orientation():
    given = [2.0, 0.0, 1.5]
    for best, pick in ((None, max), ("highest", max), ("lowest", min)):
        ratings = oriented(given, best)
        assert given[ratings.index(max(ratings))] == pick(given)
        gaps = [abs(a - b) for a in ratings for b in ratings]
        assert gaps == [abs(a - b) for a in given for b in given]


@pytest.mark.parametrize("best", ["low", "", 1])
def test_an_unknown_orientation_is_an_error(best):
    with pytest.raises(DataError, match=r"data\.best=.*highest, lowest"):
        require_best(best)


def test_ranks_are_told_from_scores():
    for ranks in ([0, 1, 2], [3, 1, 2], [1, 2], [1.0, 0.0]):
        assert are_ranks(ranks)
    for scores in ([0, 2], [2, 3], [0.5, 1.5], [9, 6, 1], [-1, 0], [0.3, 0.7], [0, 1, 1]):
        assert not are_ranks(scores)


@pytest.mark.parametrize("method", ["average", "min", "max", "dense"])
@pytest.mark.parametrize("first", [0, 1])
def test_ranks_may_have_ties(method, first):
    for scores in ([5, 3, 3], [7, 7, 2, 1], [4, 4, 4, 1], [9, 8, 8, 8, 2]):
        ranks = pandas.Series(scores).rank(method=method, ascending=False) - 1 + first
        if set(ranks) != {0, 1}:  # those may say right or wrong
            assert are_ranks(list(ranks))


def test_the_mean_of_ranks_is_told_too():
    judges = [[1, 2, 3, 4], [1, 3, 2, 4], [2, 1, 4, 3]]
    assert are_ranks([sum(ranks) / len(judges) for ranks in zip(*judges, strict=True)])


def test_the_words_of_a_name():
    for name in ("average_rank", "averageRank", "Average Rank", "AVERAGE_RANK", "average-rank2"):
        assert words(name) == {"average", "rank"}
    assert words("marketplace") == {"marketplace"}


@pytest.mark.parametrize(
    "unknown", [None, math.nan, "", " ", "nan", "NaN", "None", "null", "N/A", "<NA>"]
)
def test_a_strength_that_a_table_does_not_know_is_unknown(unknown):
    assert strength(unknown, "x") is None


@pytest.mark.parametrize(("value", "expected"), [(0, 0.0), ("0.5", 0.5), (3, 3.0)])
def test_a_strength_is_a_number(value, expected):
    assert strength(value, "x") == expected


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, "inf", "-1", -0.5, True, "strong", [1], 10**400]
)
def test_other_strengths_are_errors_with_their_place(value):
    with pytest.raises(DataError, match=r"^line 3: "):
        strength(value, "line 3")


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "", "a", True, 10**400])
def test_a_rating_must_be_a_finite_number(value):
    with pytest.raises(DataError, match=r"^line 3: must be a finite number"):
        number(value, "line 3")
