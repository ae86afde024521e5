"""What may be said of an item, in its own order and in the one that was shown."""

import itertools

import pytest

from datamodules.records import DataError, Prompt
from harness.feedback.items import ChoiceError, Item, ratings

PROMPT = Prompt.from_text("Name a fruit.")
PAIR = Item.of("pair", PROMPT, ["An apple.", "A stone."])
RANKING = Item.of("ranking", PROMPT, ["a", "b", "c", "d"])


def test_an_item_is_the_same_in_whatever_order_its_responses_are():
    assert Item.of("pair", PROMPT, ["A stone.", "An apple."]).id == PAIR.id
    others = [
        Item.of("ranking", PROMPT, ["An apple.", "A stone.", ""]),
        Item.of("pair", PROMPT, ["An apple.", "A stone"]),
        Item.of("pair", Prompt.from_text("Name a stone."), ["An apple.", "A stone."]),
    ]
    assert len({PAIR.id, *(other.id for other in others)}) == 4


@pytest.mark.parametrize(
    ("item", "choice"),
    [
        (PAIR, "up"),
        (PAIR, "0>1"),
        (PAIR, ""),
        (Item.of("thumb", PROMPT, ["a"]), "first"),
        (RANKING, "tie"),
        (RANKING, "0>1>2"),
        (RANKING, "0>1>2>2"),
        (RANKING, "0>1>2>4"),
        (RANKING, "0>1>2>x"),
    ],
)
def test_what_cannot_be_said_of_an_item_is_refused(item, choice):
    with pytest.raises(ChoiceError):
        item.check(choice)


@pytest.mark.parametrize(
    ("kind", "count"), [("pair", 1), ("pair", 3), ("thumb", 2), ("ranking", 2)]
)
def test_an_item_of_the_wrong_size_is_refused(kind, count):
    with pytest.raises(DataError):
        Item.of(kind, PROMPT, list("abc")[:count])


def test_a_pair_shown_the_other_way_round_is_read_back():
    said = {"first": "second", "second": "first", "tie": "tie", "both_bad": "both_bad"}
    for choice, meant in {**said, "skip": "skip"}.items():
        assert PAIR.in_own_order(choice, (0, 1)) == choice
        assert PAIR.in_own_order(choice, (1, 0)) == meant


def test_a_ranking_shown_in_any_order_is_read_back_as_the_same_texts():
    for order in itertools.permutations(range(4)):
        shown = [RANKING.responses[number] for number in order]
        # c is the best one; a and d are equal; b is the worst: said of what is shown.
        places = {text: place for place, text in enumerate(shown)}
        said = f"{places['c']}>{places['a']}={places['d']}>{places['b']}"
        meant = RANKING.in_own_order(said, order)
        assert meant == "2>0=3>1"
        assert ratings(RANKING, meant) == (0.5, 0.0, 1.0, 0.5)


def test_ratings_are_the_share_of_the_others_that_a_response_beats():
    three = Item.of("ranking", PROMPT, ["a", "b", "c"])
    assert ratings(three, "1>2>0") == (0.0, 1.0, 0.5)
    assert ratings(three, "0=1=2") == (0.5, 0.5, 0.5)
    assert ratings(PAIR, "second") == (0.0, 1.0)
    assert ratings(PAIR, "both_bad") == ratings(PAIR, "tie") == (0.5, 0.5)
    assert ratings(PAIR, "skip") is None
