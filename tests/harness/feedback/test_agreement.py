"""Agreement against examples worked by hand and published ones."""

import itertools
import random

import pytest

from harness.feedback.agreement import krippendorff_alpha, percent_agreement

# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, C: four observers, twelve units,
# missing ones as "."; the paper gives a nominal alpha of 0.743.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def published() -> list[list[str]]:
    columns = zip(*(row.split() for row in OBSERVERS), strict=True)
    return [[label for label in column if label != "."] for column in columns]


def test_alpha_is_that_of_the_published_example():
    assert krippendorff_alpha(published()) == pytest.approx(0.743, abs=5e-4)


def test_alpha_and_percent_of_a_small_example_worked_by_hand():
    """Of three things two annotators say AA, AB, BB. n = 6 labels, three of each sort: pairs from
    all labels differ with 18 of 30, within things 1 of 3 differs: 1 - (1/3) / (3/5) = 4/9.
    """
    units = [["A", "A"], ["A", "B"], ["B", "B"], ["A"]]
    assert krippendorff_alpha(units) == pytest.approx(4 / 9)
    assert percent_agreement(units) == pytest.approx(2 / 3)
    # With a third annotator on one thing: its three pairs of labels, of which one agrees.
    assert percent_agreement([["A", "A", "B"], ["B", "B"]]) == pytest.approx(2 / 4)


def test_alpha_is_one_where_all_agree_and_near_zero_for_dice():
    assert krippendorff_alpha([["A", "A"], ["B", "B", "B"]]) == 1
    dice = random.Random(0)
    units = [[dice.choice("ABC"), dice.choice("ABC")] for _ in range(4000)]
    assert abs(krippendorff_alpha(units)) < 0.05  # its standard error is about 0.011
    assert percent_agreement(units) == pytest.approx(1 / 3, abs=0.04)


def test_alpha_does_not_depend_on_order_or_on_what_labels_are_called():
    alpha = krippendorff_alpha(published())
    shuffled = [list(reversed(unit)) for unit in reversed(published())]
    assert krippendorff_alpha(shuffled) == pytest.approx(alpha)
    for names in itertools.islice(itertools.permutations("12345"), 1, 120, 17):
        renamed = [[names[int(label) - 1] for label in unit] for unit in published()]
        assert krippendorff_alpha(renamed) == pytest.approx(alpha)


def test_what_cannot_be_known_is_none():
    assert krippendorff_alpha([["A"], ["B"]]) is None
    assert krippendorff_alpha([["A", "A"], ["A", "A"]]) is None
    assert percent_agreement([["A"], []]) is None
