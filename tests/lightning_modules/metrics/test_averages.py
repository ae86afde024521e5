"""Means over parts of unequal size."""

import pytest
import torch

from lightning_modules.metrics.averages import Averages


def alone(x):
    return x


@pytest.fixture
def x():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def mask():
    return torch.arange(4) < torch.tensor([4, 1, 2, 3, 1, 4])[:, None]


def gathered(x, mask, parts):
    averages = Averages()
    for rows in torch.arange(len(x)).split(parts):
        averages.add_tokens("tokens", x[rows], mask[rows])
        averages.add_rows("rows", x[rows, 0])
    return averages


@pytest.mark.parametrize("parts", [[6], [1, 5], [2, 3, 1]])
def test_parts_of_unequal_size_give_the_mean_of_the_whole(x, mask, parts):
    means = gathered(x, mask, parts).means(alone)
    assert means["tokens"] == pytest.approx(float(x[mask].mean()), abs=1e-14)
    assert means["rows"] == pytest.approx(float(x[:, 0].mean()), abs=1e-14)


def test_ranks_of_unequal_size_give_the_mean_of_the_whole(x, mask):
    other = []
    gathered(x[4:], mask[4:], [2]).means(lambda table: other.append(table) or table)
    means = gathered(x[:4], mask[:4], [4]).means(lambda table: table + other[0])
    assert means == pytest.approx(gathered(x, mask, [6]).means(alone), abs=1e-14)


def test_masked_nan_is_not_averaged(x, mask):
    poisoned = x.masked_fill(~mask, float("nan"))
    assert gathered(poisoned, mask, [6]).means(alone)["tokens"] == float(x[mask].mean())


def test_rows_may_be_booleans_or_integers():
    averages = Averages()
    averages.add_rows("rate", torch.tensor([True, False, False, True]))
    averages.add_rows("length", torch.tensor([1, 2]))
    assert averages.means(alone) == {"rate": 0.5, "length": 1.5}


def test_a_plain_number_counts_once():
    averages = Averages()
    averages.add("norm", 1.0)
    averages.add("norm", torch.tensor(4.0, requires_grad=True))
    assert averages.means(alone) == {"norm": 2.5}


def test_small_numbers_are_not_lost_in_large_sums():
    averages = Averages()
    for value in (1e8, 1.0, -1e8, 1.0):
        averages.add("x", torch.tensor(value))
    assert averages.means(alone) == {"x": 0.5}


def test_nothing_gathered_is_nothing_and_asks_no_rank():
    assert Averages().means(None) == {}
