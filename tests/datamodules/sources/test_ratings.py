"""Numbers of own files: which is the best, and which say nothing."""

import math

import pytest

from datamodules.records import DataError
from datamodules.sources.ratings import are_ranks, number, oriented, require_best, strength


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
    for scores in ([0, 2], [1, 1, 2], [2, 3], [0.5, 1.5], [9, 6, 1], [-1, 0]):
        assert not are_ranks(scores)


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
