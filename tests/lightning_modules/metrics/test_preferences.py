import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from lightning_modules.metrics.intervals import wilson_interval
from lightning_modules.metrics.preferences import (
    TEMPERATURES,
    Judged,
    accuracy_by,
    clustered_variance,
    held_out_metrics,
    mean_interval,
    pearson,
    share_interval,
    temperature,
    tempered_calibration_error,
)
from lightning_modules.objectives.preference import bradley_terry

NAN = math.nan


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(chosen: Tensor, rejected: Tensor | None = None, **others: Tensor) -> Judged:
    """Pairs of known scores, each on its own prompt and of unknown truth, unless said otherwise."""
    nothing = torch.zeros_like(chosen)
    given = {
        "chosen_length": nothing,
        "rejected_length": nothing,
        "cluster": torch.arange(len(chosen)),
        "probability": nothing + NAN,
        "strength": nothing + NAN,
    }
    return Judged(chosen, nothing if rejected is None else rejected, **(given | others))


def drawn(count: int = 4000, seed: int = 0) -> Judged:
    """Pairs whose order is drawn from the model's own probabilities, 1 to 4 on a prompt."""
    noise = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(count, 2, generator=noise, dtype=torch.float64)
    lengths = torch.randint(10, 90, (count, 2), generator=noise).double()
    first = torch.rand(count, generator=noise, dtype=torch.float64)
    swap = (first > torch.sigmoid(scores[:, 0] - scores[:, 1])).long()
    rows = torch.arange(count)
    return pairs(
        scores[rows, swap],
        scores[rows, 1 - swap],
        chosen_length=lengths[rows, swap],
        rejected_length=lengths[rows, 1 - swap],
        cluster=torch.randint(0, 4, (count,), generator=noise).cumsum(0) // 4,
    )


def clustered(groups: int = 150) -> tuple[Tensor, Tensor]:
    """Rights and clusters of 1 to 4 pairs, where pairs of a prompt are much alike."""
    noise = torch.Generator().manual_seed(1)
    cluster = torch.arange(groups).repeat_interleave(
        torch.randint(1, 5, (groups,), generator=noise)
    )
    easy = torch.rand(groups, generator=noise, dtype=torch.float64).round() * 0.8 + 0.15
    right = torch.rand(len(cluster), generator=noise, dtype=torch.float64) < easy[cluster]
    return right.double(), cluster


def test_metrics_of_pairs_that_can_be_counted():
    metrics = held_out_metrics(
        pairs(
            tensor(2, 1, 0, 0),
            tensor(0, 0, 0, 1),
            chosen_length=tensor(5, 1, 3, 9),
            rejected_length=tensor(4, 2, 3, 1),
            probability=tensor(0.9, 0.2, 0.5, 0.7),
        )
    )
    losses = [math.log(1 + math.exp(-m)) for m in (2, 1, 0, -1)]
    assert metrics["loss"] == pytest.approx(sum(losses) / 4)
    assert metrics["accuracy"] == pytest.approx(2.5 / 4)
    assert metrics["margin"] == pytest.approx(0.5)
    assert metrics["score_chosen"] == pytest.approx(0.75)
    assert metrics["score_rejected"] == pytest.approx(0.25)
    assert metrics["accuracy_longer"] == pytest.approx(2.5 / 4)
    assert metrics["bayes_accuracy"] == pytest.approx((0.9 + 0.8 + 0.5 + 0.7) / 4)
    # differences of scores 2 1 0 -1 and of lengths 1 -1 0 8
    within = (2 * 1 - 1 - 8) / math.sqrt(6 * 66)
    assert metrics["score_length_correlation_within"] == pytest.approx(within)


def test_without_a_known_truth_of_every_pair_there_is_no_ceiling():
    some = pairs(tensor(1, 2), probability=tensor(0.7, NAN))
    assert "bayes_accuracy" not in held_out_metrics(some)


def test_the_clustered_variance_is_that_of_a_bootstrap_over_prompts():
    right, cluster = clustered()
    groups, draws = int(cluster.max()) + 1, 4000
    totals = torch.zeros(groups, dtype=torch.float64).index_add_(0, cluster, right)
    sizes = cluster.bincount().double()
    noise = torch.Generator().manual_seed(2)
    again = torch.randint(0, groups, (draws, groups), generator=noise)
    means = totals[again].sum(1) / sizes[again].sum(1)
    # the bootstrap's noise, four standard errors of it, and terms of order 1 / G
    tolerance = 4 * math.sqrt(2 / draws) + 3 / groups
    assert clustered_variance(right, cluster) == pytest.approx(float(means.var()), rel=tolerance)
    alone = clustered_variance(right, torch.arange(len(right)))
    assert clustered_variance(right, cluster) > 1.3 * alone


def test_independent_pairs_have_the_interval_of_wilson():
    right = tensor(1, 1, 0, 1, 0, 1, 1, 1, 0, 1)
    expected = wilson_interval(0.7, 10)
    assert share_interval(right, torch.arange(10)) == pytest.approx(expected)


def test_pairs_said_twice_are_worth_no_more():
    right, cluster = clustered()
    twice = share_interval(right.repeat(2), cluster.repeat(2))
    assert twice == pytest.approx(share_interval(right, cluster))
    alone = torch.arange(len(right))
    twice = share_interval(right.repeat(2), alone.repeat(2))
    assert twice == pytest.approx(share_interval(right, alone))


def test_pairs_of_alike_prompts_are_worth_fewer_but_never_more_than_there_are():
    right, cluster = clustered()
    low, high = share_interval(right, cluster)
    alone_low, alone_high = wilson_interval(float(right.mean()), len(right))
    assert low < alone_low
    assert high > alone_high
    balanced = tensor(1, 0, 1, 0, 1, 0, 1, 1)
    interval = share_interval(balanced, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    assert interval == pytest.approx(wilson_interval(5 / 8, 8))


def test_where_nothing_varies_prompts_are_counted_and_one_prompt_says_nothing():
    twos = torch.tensor([0, 0, 1, 1, 2, 2])
    assert share_interval(torch.ones(6).double(), twos) == wilson_interval(1.0, 3)
    assert share_interval(tensor(0, 1, 1, 0, 0, 1), twos) == wilson_interval(0.5, 3)
    assert share_interval(tensor(1, 1, 0), torch.zeros(3).long()) == (0.0, 1.0)
    assert all(math.isnan(end) for end in mean_interval(tensor(1, 1, 0), torch.zeros(3).long()))


@pytest.mark.parametrize("size", [0.02, 1.0, 50.0])
def test_the_temperature_of_equal_margins_is_the_one_that_predicts_their_share(size):
    margins = size * tensor(1, 1, 1, -1)
    assert temperature(margins) == pytest.approx(size / math.log(3), rel=1e-6)


def test_the_temperature_scales_with_the_margins_and_has_the_least_loss():
    margins = drawn(500).margins
    best = temperature(margins)
    assert temperature(3 * margins) == pytest.approx(3 * best, rel=1e-6)

    def loss(t: float) -> float:
        return float(bradley_terry(margins / t, torch.zeros_like(margins)).mean())

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best))


def test_scores_that_are_the_true_log_odds_have_temperature_one():
    margins = drawn().margins
    p = torch.sigmoid(margins)
    # 1 / T is the slope of a logistic regression, whose information is sum m^2 p (1 - p)
    error = 1 / math.sqrt(float((margins.square() * p * (1 - p)).sum()))
    assert 1 / temperature(margins) == pytest.approx(1, abs=4 * error)


def test_temperatures_that_have_no_optimum_stay_within_bounds():
    assert temperature(tensor(1, 2, 0)) == pytest.approx(TEMPERATURES[0])
    assert temperature(tensor(-1, -2)) == pytest.approx(TEMPERATURES[1])
    assert temperature(tensor(0, 0)) == 1


def test_each_half_of_the_prompts_is_tempered_by_the_other():
    halves = tensor(2, 1).repeat(20)
    halves[0:10:2] *= -1  # 15 of 20 right: T = 2 / log 3
    halves[1:9:2] *= -1  # 16 of 20 right: T = 1 / log 4
    first, second = (1 / (1 + math.exp(-m)) for m in (2 * math.log(4), math.log(3) / 2))
    expected = (abs(first - 0.75) + abs(second - 0.8)) / 2
    error = tempered_calibration_error(halves, torch.arange(40))
    assert error == pytest.approx(expected)
    assert math.isnan(tempered_calibration_error(halves, torch.zeros(40).long()))


def test_tempering_mends_scores_that_are_too_large():
    calm = drawn()
    loud = replace(calm, chosen=4 * calm.chosen, rejected=4 * calm.rejected)
    metrics = held_out_metrics(loud)
    assert metrics["ece_tempered"] < 0.3 * metrics["ece"]
    assert metrics["ece_tempered"] == pytest.approx(held_out_metrics(calm)["ece_tempered"])


def test_a_constant_per_prompt_changes_nothing_within_pairs():
    rows = drawn(300)
    shift = 100 * torch.sin(rows.cluster.double())
    moved = replace(rows, chosen=rows.chosen + shift, rejected=rows.rejected + shift)
    before, after = held_out_metrics(rows), held_out_metrics(moved)
    over_all = ("score_chosen", "score_rejected", "score_length_correlation")
    for name in set(before) - set(over_all):
        assert after[name] == pytest.approx(before[name], abs=1e-9), name
    assert abs(after[over_all[2]] - before[over_all[2]]) > 1e-3


def test_swapping_chosen_and_rejected_turns_the_metrics_round():
    rows = drawn(300)
    swapped = replace(
        rows,
        chosen=rows.rejected,
        rejected=rows.chosen,
        chosen_length=rows.rejected_length,
        rejected_length=rows.chosen_length,
    )
    before, after = held_out_metrics(rows), held_out_metrics(swapped)
    assert after["margin"] == pytest.approx(-before["margin"])
    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])
    assert after["accuracy_ci_low"] == pytest.approx(1 - before["accuracy_ci_high"])
    assert after["accuracy_longer"] == pytest.approx(1 - before["accuracy_longer"])
    for name in ("score_length_correlation", "score_length_correlation_within"):
        assert after[name] == pytest.approx(before[name])


def test_scores_that_are_lengths_correlate_fully_with_them():
    rows = drawn(50)
    metrics = held_out_metrics(
        replace(rows, chosen=2 * rows.chosen_length, rejected=2 * rows.rejected_length)
    )
    assert metrics["score_length_correlation"] == pytest.approx(1)
    assert metrics["score_length_correlation_within"] == pytest.approx(1)


def test_lengths_that_are_constant_have_no_correlation_and_nothing_else_is_undefined():
    third = torch.full((3,), 0.1, dtype=torch.float64)
    for rows in (pairs(tensor(1.0)), pairs(third, third), pairs(third)):
        metrics = held_out_metrics(rows)
        undefined = {name for name, value in metrics.items() if math.isnan(value)}
        assert {"score_length_correlation", "score_length_correlation_within"} <= undefined
        assert undefined <= {
            "score_length_correlation",
            "score_length_correlation_within",
            "ece_tempered",
        }


def test_a_constant_whose_mean_is_rounded_is_still_constant():
    # How sums are ordered decides how many tenths it takes.
    every = (torch.full((n,), 0.1, dtype=torch.float64) for n in range(2, 1000))
    tenths = next(x for x in every if (x - x.mean()).any())
    assert math.isnan(pearson(tenths, torch.arange(len(tenths)).double()))


def test_buckets_hold_the_pairs_between_their_edges_and_no_unknown_ones():
    rows = pairs(tensor(1, -1, 2, 0, 3, -3), cluster=torch.tensor([0, 1, 2, 3, 4, 4]))
    first, last = accuracy_by(rows, tensor(0, 0.5, NAN, 1, 2, 9), tensor(0, 1, 2))
    assert (first.low, first.high, first.pairs, first.accuracy) == (0, 1, 2, 0.5)
    assert (last.low, last.high, last.pairs, last.accuracy) == (1, 2, 2, 0.75)
    assert first.predicted == pytest.approx(1 / (1 + math.exp(-1)))
    assert (first.ci_low, first.ci_high) == pytest.approx(wilson_interval(0.5, 2))


def test_a_last_edge_given_twice_is_a_bucket_of_one_value_and_empty_buckets_are_left_out():
    rows = pairs(tensor(1, -1, 1))
    buckets = accuracy_by(rows, tensor(0, 2, 2), tensor(0, 1, 2, 2))
    assert [(b.low, b.high, b.pairs) for b in buckets] == [(0, 1, 1), (2, 2, 2)]


def test_buckets_of_confidence_add_up_to_the_calibration_error():
    rows = drawn(1000)
    rows = replace(rows, chosen=2 * rows.chosen)
    bins = torch.linspace(0.5, 1, 16, dtype=torch.float64)
    buckets = accuracy_by(rows, rows.confidence, bins)
    gaps = sum(b.pairs * abs(b.accuracy - b.predicted) for b in buckets) / 1000
    assert gaps == pytest.approx(held_out_metrics(rows)["ece"])


def test_the_order_of_pairs_does_not_matter_but_for_the_fields_going_together():
    rows = drawn(200)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    moved = Judged(**{f.name: getattr(rows, f.name)[order] for f in fields(rows)})
    before, after = held_out_metrics(rows), held_out_metrics(moved)
    assert after == pytest.approx(before, nan_ok=True)
