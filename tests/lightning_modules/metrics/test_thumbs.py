"""What is known of a reward from thumbs, against counts by hand and draws."""

import math

import pytest
import torch

from lightning_modules.metrics.thumbs import (
    JudgedThumbs,
    auc,
    auc_interval,
    auc_parts,
    auc_within,
    held_out_thumbs,
    variance_of_sum,
)
from lightning_modules.objectives.thumbs import probability_calibration_error

NAN = float("nan")


def judged(score, liked, cluster=None, bias=0.0, length=None, probability=None):
    count = len(score)
    return JudgedThumbs(
        score=torch.tensor(score, dtype=torch.float64),
        liked=torch.tensor(liked, dtype=torch.bool),
        length=torch.tensor(length or [1.0] * count, dtype=torch.float64),
        cluster=torch.arange(count) if cluster is None else torch.tensor(cluster),
        probability=torch.tensor(probability or [NAN] * count, dtype=torch.float64),
        bias=bias,
    )


def drawn(count, seed, ties=False):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(count, generator=generator, dtype=torch.float64)
    liked = torch.rand(count, generator=generator) < torch.sigmoid(score)
    return (score.round() if ties else score), liked


@pytest.mark.parametrize("ties", [False, True])
def test_the_auc_is_the_share_of_pairs_in_order(ties):
    score, liked = drawn(60, 0, ties)
    gaps = score[liked][:, None] - score[~liked]
    assert auc(score, liked) == pytest.approx(float((0.5 + 0.5 * gaps.sign()).mean()), abs=1e-12)
    assert auc(-score, liked) == pytest.approx(1 - auc(score, liked), abs=1e-12)
    assert auc(3 * score + 7, liked) == auc(score, liked)


def test_the_auc_of_thumbs_of_one_kind_is_unknown():
    score, liked = drawn(10, 0)
    assert math.isnan(auc(score, torch.ones_like(liked)))
    assert auc_interval(score, torch.ones_like(liked), torch.arange(10)) == (0.0, 1.0)


def test_the_variance_of_the_auc_is_that_of_drawing_it_again():
    found, claimed = [], []
    for seed in range(400):
        score, liked = drawn(80, seed)
        found.append(auc(score, liked))
        claimed.append(variance_of_sum(auc_parts(score, liked), torch.arange(80)))
    seen = torch.tensor(found).var()
    # A variance of 400 draws is within 4 x sqrt(2 / 400) of itself.
    assert abs(torch.tensor(claimed).mean() / seen - 1) < 4 * math.sqrt(2 / 400)


def test_what_is_said_of_one_prompt_again_and_again_is_no_further_evidence():
    score, liked = drawn(40, 1)
    cluster = torch.arange(40)
    again = [x.repeat(5) for x in (score, liked, cluster)]
    assert auc(*again[:2]) == pytest.approx(auc(score, liked), abs=1e-12)
    once = variance_of_sum(auc_parts(score, liked), cluster)
    assert variance_of_sum(auc_parts(*again[:2]), again[2]) == pytest.approx(once, rel=1e-9)


def test_knowing_which_prompts_are_liked_is_no_order_of_their_responses():
    """Two prompts whose thumbs differ in number, and scores that know the prompt alone."""
    rows = judged([2, 2, 2, -2, -2, -2], [1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1])
    assert auc(rows.score, rows.liked) == pytest.approx((2.5 + 2.5 + 1) / 9)
    assert auc_within(rows.score, rows.liked, rows.cluster) == 0.5
    assert math.isnan(auc_within(rows.score, rows.liked, torch.arange(6)))


def test_the_pairs_of_all_prompts_count_alike():
    rows = judged([3, 1, 0, 5, 6], [1, 0, 0, 1, 0], [0, 0, 0, 1, 1])
    assert auc_within(rows.score, rows.liked, rows.cluster) == pytest.approx(2 / 3)


def test_numbers_by_hand():
    rows = judged(
        [1.0, 2.0, 0.0, 0.5],
        [1, 1, 1, 0],
        bias=0.5,
        length=[5, 6, 1, 5],
        probability=[0.9, 0.6, 0.2, 0.7],
    )
    found = held_out_thumbs(rows)
    up = torch.sigmoid(torch.tensor([0.5, 1.5, -0.5, 0.0], dtype=torch.float64))
    happened = torch.tensor([up[0], up[1], up[2], 1 - up[3]])
    assert found["up"] == found["majority"] == 0.75
    assert found["auc"] == pytest.approx(2 / 3)
    assert found["auc_longer"] == pytest.approx(1.5 / 3)
    assert found["accuracy"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert found["loss"] == pytest.approx(float(-happened.log().mean()))
    assert found["brier"] == pytest.approx(float((1 - happened).square().mean()))
    assert found["bayes_accuracy"] == pytest.approx((0.9 + 0.6 + 0.8 + 0.7) / 4)
    assert found["bias"] == 0.5


def test_without_a_bias_the_order_alone_is_judged():
    found = held_out_thumbs(judged([1.0, 2.0], [0, 1], bias=None))
    assert found["auc"] == 1
    assert not {"accuracy", "loss", "ece", "brier", "bias"} & found.keys()


def test_the_calibration_error_does_not_fold_ups_and_downs():
    """Too many ups expected everywhere: where confidences are folded the two sides would cancel."""
    predicted = torch.tensor([0.8] * 10 + [0.2] * 10, dtype=torch.float64)
    happened = torch.tensor([True] * 6 + [False] * 14)
    error = probability_calibration_error(predicted, happened)
    assert float(error) == pytest.approx(0.2)
    right = torch.tensor([True] * 8 + [False] * 2 + [True] * 2 + [False] * 8)
    assert float(probability_calibration_error(predicted, right)) == pytest.approx(0.0, abs=1e-12)
