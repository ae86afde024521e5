"""Several rewards as one."""

import pytest
import torch

from lightning_modules.errors import OptionError
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.reward import Responses, Reward

NAN = float("nan")


class Fixed(Reward):
    """Scores that are given, with a memory of what was done to it."""

    name = "fixed"

    def __init__(self, *scores, heads=1):
        self.scores = torch.tensor(scores)
        self.heads = heads
        self.done = []

    def check(self, context):
        self.done.append(("check", context))

    def bind(self, context):
        self.done.append(("bind", context))

    def check_prompts(self, context, prompts):
        self.done.append(("prompts", context, prompts))

    def to(self, device):
        self.done.append(("to", device))

    def raw_scores(self, prompts, texts):
        spread = torch.arange(float(self.heads)) - (self.heads - 1) / 2
        return 10 * self.scores[:, None] + spread

    def score(self, responses):
        return self.scores


@pytest.fixture
def responses():
    ones = torch.ones(3, 1, dtype=torch.bool)
    return Responses([None] * 3, torch.zeros(3, 2), ones, ones, ones[:, 0], str)


def make(first, second, **weights):
    return CombinedReward(rewards={"a": first, "b": second}, weights=weights)


def test_the_score_is_the_weighted_sum(responses):
    combined = make(Fixed(1.0, 2.0, -1.0), Fixed(0.5, 4.0, 8.0), a=2.0, b=-0.5)
    assert combined.score(responses).tolist() == [1.75, 2.0, -6.0]


def test_who_has_no_score_from_one_has_none(responses):
    combined = make(Fixed(1.0, NAN, 3.0), Fixed(0.5, 4.0, NAN), a=1.0, b=0.0)
    assert combined.score(responses).isnan().tolist() == [False, True, True]
    assert combined.raw_scores([None] * 3, [""] * 3).isnan().flatten().tolist() == [
        False,
        True,
        True,
    ]


def test_raw_scores_of_ensembles_count_as_their_mean():
    combined = make(Fixed(1.0, 2.0, 3.0, heads=4), Fixed(0.0, 1.0, 0.0), a=0.5, b=1.0)
    raw = combined.raw_scores([None] * 3, [""] * 3)
    assert raw.shape == (3, 1)
    assert raw.flatten().tolist() == [5.0, 20.0, 15.0]


def test_texts_are_weighed_by_what_they_are_worth_and_not_raw():
    class Worth(Fixed):
        def score_texts(self, prompts, texts, stopped=None):
            self.done.append(stopped)
            return self.scores

    parts = Worth(1.0, 2.0, NAN), Worth(0.5, 4.0, 8.0)
    found = make(*parts, a=2.0, b=-0.5).score_texts([None] * 3, [""] * 3, [True, False, True])
    assert found[:2].tolist() == [1.75, 2.0]
    assert found[2].isnan()
    assert parts[0].done == parts[1].done == [[True, False, True]]


def test_every_part_is_checked_bound_and_moved():
    first, second = Fixed(1.0), Fixed(1.0)
    combined = make(first, second, a=1.0, b=1.0)
    combined.check("here")
    combined.check_prompts("here", "these")
    combined.bind("here")
    combined.to("cpu")
    expected = [("check", "here"), ("prompts", "here", "these"), ("bind", "here"), ("to", "cpu")]
    assert first.done == second.done == expected


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 1.0}, r"reward\.weights\.b=None: every reward needs a weight"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, r"reward\.rewards\.c=None"),
    ],
)
def test_rewards_and_weights_belong_together_by_name(weights, expected):
    with pytest.raises(OptionError, match=expected):
        make(Fixed(1.0), Fixed(1.0), **weights)


def test_no_rewards_are_refused():
    with pytest.raises(OptionError, match=r"reward\.rewards"):
        CombinedReward(rewards={}, weights={})
