"""Sums over real tokens: whatever lies beside them, and however they are split."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from lightning_modules.objectives.masked import aggregate, masked, masked_sum, moments, whiten

LENGTHS = (5, 1, 3, 2, 4)


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(LENGTHS), 5, generator=generator, dtype=torch.float64)


@pytest.fixture
def mask():
    return torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def on_ranks(work, parts):
    """`work(*part, all_reduce)` on one thread a part; `all_reduce` sums over the threads."""
    barrier, slots = Barrier(len(parts), timeout=10), [None] * len(parts)

    def run(rank):
        def all_reduce(x):
            slots[rank] = x
            barrier.wait()
            total = sum(slots)
            barrier.wait()
            return total

        return work(*parts[rank], all_reduce)

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, range(len(parts))))


@pytest.mark.parametrize(
    "function",
    [masked, masked_sum, moments, whiten, lambda x, mask: aggregate(x, mask, 5)],
    ids=["masked", "masked_sum", "moments", "whiten", "aggregate"],
)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_what_is_masked_changes_not_one_bit(x, mask, function, poison):
    clean, poisoned = function(x, mask), function(x.masked_fill(~mask, poison), mask)
    torch.testing.assert_close(poisoned, clean, rtol=0, atol=0)


def test_masked_sum_adds_the_real_tokens_of_each_row(x, mask):
    expected = [float(row[:n].sum()) for row, n in zip(x, LENGTHS, strict=True)]
    assert masked_sum(x, mask).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("split", [[5], [1, 4], [2, 2, 1], [1, 1, 1, 1, 1]])
def test_any_split_into_micro_batches_gives_the_same_gradient(x, mask, split):
    def gradient(sizes):
        weights = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()
        for rows in torch.arange(5).split(sizes):
            losses = torch.tanh(x[rows] * weights) ** 2
            aggregate(losses, mask[rows], len(x)).backward()
        return weights.grad

    torch.testing.assert_close(gradient(split), gradient([5]), rtol=0, atol=1e-10)


def test_aggregate_weighs_every_token_alike(x, mask):
    losses = x.clone().requires_grad_()
    aggregate(losses, mask, 5.0).backward()
    torch.testing.assert_close(losses.grad, mask / 5.0, check_dtype=False)


def test_nan_beside_real_tokens_does_not_reach_the_gradient(x, mask):
    losses = x.masked_fill(~mask, float("nan")).requires_grad_()
    aggregate(losses, mask, 1.0).backward()
    assert torch.equal(losses.grad, mask.double())


def test_moments_are_those_of_the_real_tokens(x, mask):
    mean, variance = moments(x, mask)
    assert float(mean) == pytest.approx(float(x[mask].mean()), abs=1e-14)
    assert float(variance) == pytest.approx(float(x[mask].var(correction=0)), abs=1e-14)


def test_whitened_has_mean_0_and_variance_1(x, mask):
    mean, variance = moments(whiten(x, mask, eps=0.0), mask)
    assert float(mean) == pytest.approx(0, abs=1e-12)
    assert float(variance) == pytest.approx(1, abs=1e-12)


def test_whitening_forgets_shift_and_scale(x, mask):
    torch.testing.assert_close(
        whiten(7 * x - 3, mask, eps=0.0), whiten(x, mask, eps=0.0), rtol=0, atol=1e-12
    )


def test_whitened_is_0_where_masked(x, mask):
    assert (whiten(x, mask)[~mask] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.5, 7.3, 1000.1])
def test_equal_values_are_whitened_to_0(value, dtype):
    x = torch.full((37, 7), value, dtype=dtype)
    largest = float(whiten(x, torch.ones_like(x, dtype=torch.bool)).abs().max())
    assert largest < 1e-6


@pytest.mark.parametrize("at", [1, 3])
def test_whitening_over_two_ranks_is_whitening_of_the_whole(x, mask, at):
    parts = [(x[:at], mask[:at]), (x[at:], mask[at:])]
    torch.testing.assert_close(
        torch.cat(on_ranks(whiten, parts)), whiten(x, mask), rtol=0, atol=1e-12
    )
