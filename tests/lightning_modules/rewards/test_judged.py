"""Verdicts as scores: ratings, wins against the reference, and none where there is no verdict."""

import math

import pytest
import torch

from datamodules.records import Prompt
from lightning_modules.errors import OptionError
from lightning_modules.judges.verdict import Verdict
from lightning_modules.models.loading import FLOAT32
from lightning_modules.rewards.judged import JudgeReward
from lightning_modules.rewards.reward import RewardContext

PROMPTS = [Prompt.from_text("?")] * 4
TEXTS = ["good", "same", "bad", "lost"]
# The probability that the first is better, with a taste for the first place.
BETTER = {("good", "same"): 1.0, ("same", "good"): 0.5, ("bad", "same"): 0.5, ("same", "bad"): 1.0}


class Taste:
    """What a judge says, by a table."""

    def bind(self, context):
        self.asked = []

    def rate(self, prompts, responses):
        return [Verdict(value) for value in (7.0, 5.0, 1.0, None)]

    def compare(self, prompts, firsts, seconds):
        self.asked += zip(firsts, seconds, strict=True)
        return [Verdict(BETTER.get(pair)) for pair in zip(firsts, seconds, strict=True)]


def reward(**options):
    made = JudgeReward(**options)
    made.bind(
        RewardContext(
            reward_model=None,
            gold=None,
            encoder=None,
            frozen=FLOAT32,
            judge=Taste(),
            reference_responses=lambda prompts: ["same"] * len(prompts),
        )
    )
    return made


def test_a_rating_is_the_score_and_a_missing_one_is_none():
    scores = reward().score_texts(PROMPTS, TEXTS)
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([7.0, 5.0, 1.0, math.nan], nan_ok=True)


def test_a_win_is_the_mean_of_both_orders_and_the_references_own_words_are_a_tie():
    made = reward(form="win")
    scores = made.score_texts(PROMPTS, TEXTS)
    assert scores.tolist() == pytest.approx([0.75, 0.5, 0.25, math.nan], nan_ok=True)
    assert len(made.judge.asked) == 6
    one = reward(form="win", both_orders=False)
    scores = one.score_texts(PROMPTS, TEXTS)
    assert scores.tolist() == pytest.approx([1.0, 0.5, 0.5, math.nan], nan_ok=True)
    assert all(second == "same" for _, second in one.judge.asked)
    assert reward(form="win").score_texts(PROMPTS[:1], ["same"]).tolist() == [0.5]


def test_without_a_judge_there_is_no_such_reward():
    context = RewardContext(reward_model=None, gold=None, encoder=None, frozen=FLOAT32)
    with pytest.raises(OptionError, match="needs a judge"):
        JudgeReward().check(context)
    with pytest.raises(OptionError, match=r"reward\.form=loss"):
        JudgeReward(form="loss")
