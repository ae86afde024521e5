"""What is known of pairs that a judge has read in both orders, by hand."""

from math import isnan

import pytest
import torch

from lightning_modules.metrics.judgements import BothOrders, agreement, column, judged_metrics
from lightning_modules.metrics.preferences import share_interval

# P(first is better), read first and read second; and what comes of it.
VERDICTS = [
    ((1.0, 1.0), 1.0),
    ((0.9, 0.6), 1.0),
    ((0.0, 0.4), 0.0),
    ((1.0, 0.0), 0.5),  # for what is read first, twice
    ((0.0, 1.0), 0.5),  # for what is read last, twice
    ((1.0, 0.5), 0.5),
    ((0.5, 0.5), 0.5),
]


def both(verdicts, difference=None, cluster=None):
    first, second = zip(*verdicts, strict=True)
    count = len(verdicts)
    return BothOrders(
        read_first=column(first),
        read_second=column(second),
        difference=torch.zeros(count) if difference is None else column(difference),
        cluster=torch.arange(count) if cluster is None else torch.tensor(cluster),
    )


@pytest.mark.parametrize(("verdict", "won"), VERDICTS)
def test_a_response_wins_if_both_orders_prefer_it(verdict, won):
    assert both([verdict]).won.tolist() == [won]


def test_exchanging_the_responses_of_a_pair_exchanges_wins_and_nothing_else():
    pairs = both([verdict for verdict, _ in VERDICTS])
    turned = both([(1 - second, 1 - first) for (first, second), _ in VERDICTS])
    assert torch.equal(turned.won, 1 - pairs.won)
    assert torch.equal(turned.disagree, pairs.disagree)
    one, other = pairs.for_what_is_read_first, turned.for_what_is_read_first
    assert torch.equal(one.reshape(2, -1), other.reshape(2, -1).flip(0))


def test_orders_disagree_unless_they_have_one_winner_or_none():
    pairs = both([verdict for verdict, _ in VERDICTS])
    assert pairs.disagree.tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_the_leaning_to_a_place_is_that_of_the_verdicts_whoever_is_better():
    pairs = both([verdict for verdict, _ in VERDICTS])
    of_pairs = pairs.for_what_is_read_first.reshape(2, -1).mean(0)
    assert of_pairs.tolist() == [0.5, 0.5, 0.5, 1, 0, 0.75, 0.5]


def test_the_numbers_of_a_handful():
    verdicts = [(1, 1), (1, 1), (0, 0), (1, 0), (None, 1), (0.5, 0.5)]
    found = judged_metrics(both(verdicts, difference=[5, -2, -3, 9, 1, 0]))
    assert found["unscored"] == pytest.approx(1 / 6)
    won = column([1, 1, 0, 0.5, 0.5])
    assert found["win_rate"] == pytest.approx(0.6)
    interval = (found["win_rate_ci_low"], found["win_rate_ci_high"])
    assert interval == share_interval(won, torch.arange(5))
    assert found["ties"] == pytest.approx(0.4)
    assert found["orders_disagree"] == pytest.approx(0.2)
    assert found["read_first"] == pytest.approx(0.6)  # one pair of five says so twice
    assert found["preference"] == pytest.approx(0.6)
    assert found["longer"] == pytest.approx(2 / 3)  # of three with a winner the second is shorter
    assert 0 < found["lc_win_rate"] < 1


def test_pairs_of_one_prompt_make_intervals_no_narrower():
    verdicts = [(1, 1), (1, 1), (0, 0), (0, 0)] * 5
    apart = judged_metrics(both(verdicts))
    together = judged_metrics(both(verdicts, cluster=[i // 2 for i in range(20)]))
    for name in ("win_rate", "lc_win_rate"):
        widths = [m[f"{name}_ci_high"] - m[f"{name}_ci_low"] for m in (apart, together)]
        assert widths[1] > 1.2 * widths[0]


def test_without_verdicts_the_share_of_them_is_all_that_is_told():
    assert judged_metrics(both([(None, 1), (None, None)])) == {"unscored": 1.0}


def test_agreement_is_that_of_the_pairs_with_a_winner_and_kappa_takes_chance_off():
    """Of 8 with a winner 6 agree: kappa is (3/4 - 1/2) / (1 - 1/2)."""
    won = column([1] * 6 + [0] * 2 + [0.5] * 2)
    found = agreement(won, torch.arange(10))
    assert found["agreement"] == pytest.approx(0.75)
    assert found["kappa"] == pytest.approx(0.5)
    assert found["kappa_ci_low"] == pytest.approx(2 * found["agreement_ci_low"] - 1)
    assert found["agreement_ties_half"] == pytest.approx(0.7)


def test_kappa_is_cohens_of_the_table_in_which_either_response_comes_first():
    """By the definition, on all pairs in either order: marginals of one half each."""
    won = column([1] * 13 + [0] * 4)
    table = torch.zeros(2, 2)
    for agrees in won.tolist():
        for label in (0, 1):
            table[label, label if agrees else 1 - label] += 1
    share = table / table.sum()
    observed, chance = share.trace(), (share.sum(0) * share.sum(1)).sum()
    kappa = float((observed - chance) / (1 - chance))
    assert agreement(won, torch.arange(17))["kappa"] == pytest.approx(kappa)


def test_agreement_of_ties_alone_is_not_defined():
    found = agreement(column([0.5, 0.5]), torch.arange(2))
    assert isnan(found["agreement"])
    assert isnan(found["kappa_ci_low"])
    assert found["agreement_ties_half"] == 0.5
