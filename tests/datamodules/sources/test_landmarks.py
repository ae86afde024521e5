import math

import numpy as np
import pytest

from datamodules.records import DataError, Prompt
from datamodules.sources.landmarks import (
    ADVICE,
    DEMONSTRATED,
    GOLD,
    LANDMARKS,
    Landmarks,
    _break,
)

SPLITS = ("train", "val")
SMALL = {"train_demonstrations": 50, "train_pairs": 50, "val_pairs": 20}
BEST = {name: f"The {name} is in {city}." for name, city, _ in LANDMARKS} | {
    name: safe for name, safe, _ in ADVICE
}
STANDARD_ERRORS = 4


def records(world):
    kinds = (world.demonstrations, world.preferences, world.prompts)
    return [rows(split) for rows in kinds for split in SPLITS]


def questions(world, name, split):
    return [prompt for prompt in world.prompts(split) if name in prompt.text]


@pytest.fixture(scope="module")
def large():
    """Undecided annotators, so that their noise shows."""
    return Landmarks(train_demonstrations=4000, train_pairs=4000, val_pairs=20, decisiveness=2.0)


def test_records_are_the_same_every_time_and_in_every_order():
    world = Landmarks(**SMALL)
    backwards = [world.preferences("val"), world.demonstrations("train")]
    assert backwards == [records(world)[3], records(world)[0]]
    assert records(world) == records(Landmarks(**SMALL))


def test_seeds_and_splits_draw_different_records():
    train, val = ([r.chosen for r in Landmarks(**SMALL).preferences(s)][:20] for s in SPLITS)
    other = [r.chosen for r in Landmarks(**SMALL, seed=1).preferences("train")][:20]
    assert len({tuple(train), tuple(val), tuple(other)}) == 3


def test_there_are_as_many_records_as_asked_for(world):
    assert [len(world.preferences(split)) for split in SPLITS] == [200, 60]
    assert len(world.demonstrations("train")) == 200 > len(world.demonstrations("val")) > 0


def test_every_topic_is_asked_about_in_both_splits_in_other_words(world):
    for split, landmark, advice in (("train", 11, 10), ("val", 3, 3)):
        counts = {len(questions(world, name, split)) for name in BEST}
        assert counts == {landmark, advice}
        assert len(world.prompts(split)) == landmark * 20 + advice * 12
    assert not set(world.prompts("train")) & set(world.prompts("val"))


@pytest.mark.parametrize("split", SPLITS)
def test_records_ask_the_questions_of_their_split(world, split):
    rows = [*world.demonstrations(split), *world.preferences(split)]
    assert {row.prompt for row in rows} <= set(world.prompts(split))


@pytest.mark.parametrize("split", SPLITS)
def test_the_best_response_to_every_question_is_worth_one(world, split):
    for name, best in BEST.items():
        for prompt in questions(world, name, split):
            assert world.gold(prompt, best) == world.gold(prompt, f" {best}\n") == 1


@pytest.mark.parametrize("split", SPLITS)
def test_the_best_response_to_another_question_is_worth_nothing(world, split):
    for name in BEST:
        others = [best for other, best in BEST.items() if other != name]
        for prompt in questions(world, name, split):
            assert {world.gold(prompt, response) for response in others} == {0}


def test_a_landmark_in_the_wrong_city_is_worse_than_saying_nothing_certain(world):
    prompt = questions(world, "Taj Mahal", "val")[0]
    responses = (
        "The Taj Mahal is in Agra.",
        "The Taj Mahal is in India.",
        "I do not know where the Taj Mahal is.",
        "The Taj Mahal is in Paris.",
        "The Taj Mahal is in Atlantis.",
    )
    golds = [world.gold(prompt, response) for response in responses]
    assert golds == sorted(set(golds), reverse=True)
    assert (golds[0], golds[-1]) == (1, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda response: "",
        lambda response: response[:-1],
        lambda response: f"{response} {response}",
        lambda response: " ".join(reversed(response.split())),
        str.upper,
    ],
    ids=["nothing", "cut off", "repeated", "mixed", "shouted"],
)
def test_a_spoilt_response_is_worth_nothing(world, damage):
    for name, best in BEST.items():
        prompt = questions(world, name, "train")[0]
        assert world.gold(prompt, damage(best)) == 0


def test_breaking_a_response_leaves_no_proper_response(world):
    proper = {row.response for row in Landmarks(train_demonstrations=4000).demonstrations("train")}
    rng = np.random.default_rng(0)
    broken = {_break(rng, response) for response in sorted(proper) for _ in range(4)}
    assert not broken & proper
    assert len(broken) > len(proper)
    prompts = [questions(world, name, "train")[0] for name in BEST]
    assert {world.gold(prompt, response) for prompt in prompts for response in broken} == {0}


def test_an_unknown_question_has_no_good_response(world):
    assert world.gold(Prompt.from_text("Where is Atlantis?"), BEST["Taj Mahal"]) == 0


def test_gold_lies_in_the_unit_interval_and_every_kind_is_compared(large):
    pairs = large.preferences("train")
    golds = {large.gold(p.prompt, a) for p in pairs for a in (p.chosen, p.rejected)}
    assert golds == {0, *GOLD.values()}
    assert all(0 <= gold <= 1 for gold in golds)
    assert all(p.chosen != p.rejected for p in pairs)


def test_demonstrations_are_as_good_as_their_mixture(large):
    golds = [large.gold(d.prompt, d.response) for d in large.demonstrations("train")]
    mean = sum(share * GOLD[kind] for kind, share in DEMONSTRATED.items())
    variance = sum(share * (GOLD[kind] - mean) ** 2 for kind, share in DEMONSTRATED.items())
    assert sum(DEMONSTRATED.values()) == pytest.approx(1)
    assert abs(np.mean(golds) - mean) < STANDARD_ERRORS * math.sqrt(variance / len(golds))


def test_the_stored_probability_follows_from_the_golds(large):
    for pair in large.preferences("train"):
        margin = large.gold(pair.prompt, pair.chosen) - large.gold(pair.prompt, pair.rejected)
        odds = pair.probability / (1 - pair.probability)
        assert math.log(odds) == pytest.approx(2.0 * margin, abs=1e-9)


@pytest.mark.parametrize("low", [0.5, 0.65, 0.8])
def test_the_better_response_wins_as_often_as_the_probability_says(large, low):
    chances = [p.probability for p in large.preferences("train")]
    chances = [p for p in chances if max(p, 1 - p) > low]
    assert len(chances) > 300
    better = np.array([max(p, 1 - p) for p in chances])
    wins = sum(p > 0.5 for p in chances)
    error = math.sqrt((better * (1 - better)).sum())
    assert abs(wins - better.sum()) < STANDARD_ERRORS * error


def test_decided_annotators_prefer_the_better_response():
    world = Landmarks(**SMALL, decisiveness=300.0)
    for pair in world.preferences("train"):
        assert world.gold(pair.prompt, pair.chosen) >= world.gold(pair.prompt, pair.rejected)


@pytest.mark.parametrize("option", ["seed", *SMALL, "decisiveness"])
def test_the_identity_changes_with_the_options_that_change_the_records(option):
    options = {**SMALL, "seed": 0, "decisiveness": 8.0}
    world, other = Landmarks(**options), Landmarks(**{**options, option: options[option] + 1})
    assert world.identity() != other.identity()
    assert records(world) != records(other)


def test_the_identity_does_not_change_with_the_token_limits():
    assert (
        Landmarks().identity() == Landmarks(max_prompt_tokens=9, max_response_tokens=9).identity()
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((option, value) for option in SMALL for value in (0, -1)),
        ("decisiveness", 0),
        ("decisiveness", -8.0),
        ("max_prompt_tokens", 0),
        ("max_response_tokens", 0),
        ("seed", -1),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(option, value):
    with pytest.raises(DataError, match=rf"data\.{option}={value}"):
        Landmarks(**{option: value})
