"""Learning rates by size: the table's own at its sizes, between them in between, never more."""

from dataclasses import astuple
from itertools import pairwise

import pytest

from lightning_modules.options.learning_rates import FULL, LORA, suited_rates

TABLES = pytest.mark.parametrize(("table", "lora"), [(FULL, False), (LORA, True)])


@TABLES
def test_at_the_sizes_of_the_table_its_own_rates_are_used(table, lora):
    for size, rates in table.items():
        assert suited_rates(int(size), lora=lora) == rates


@TABLES
def test_half_way_between_two_sizes_is_the_geometric_mean_of_their_rates(table, lora):
    sizes = list(table)
    for low, high in pairwise(sizes):
        middle = astuple(suited_rates(int((low * high) ** 0.5), lora=lora))
        ends = zip(astuple(table[low]), astuple(table[high]), strict=True)
        for rate, (a, b) in zip(middle, ends, strict=True):
            assert rate == pytest.approx((a * b) ** 0.5, rel=0.05)  # two digits


@TABLES
def test_larger_models_never_take_more_and_below_a_million_parameters_all_the_same(table, lora):
    sizes = [10**k * d for k in range(3, 12) for d in (1, 2, 5)]
    rows = [astuple(suited_rates(size, lora=lora)) for size in sizes]
    for column in zip(*rows, strict=True):
        assert list(column) == sorted(column, reverse=True)
        assert column[0] == column[sizes.index(10**6)]


@TABLES
def test_several_updates_on_a_rollout_take_less_than_one(table, lora):
    for rates in table.values():
        assert rates.policy * 3 == pytest.approx(rates.policy_one_update, rel=0.12)


def test_adapters_take_more_than_whole_models():
    for size in (10**6, 135 * 10**6, 10**9, 8 * 10**9):
        full, lora = (astuple(suited_rates(size, lora=adapted)) for adapted in (False, True))
        assert all(b > 2 * a for a, b in zip(full, lora, strict=True))


def test_what_the_presets_were_given_by_hand_is_what_their_sizes_say():
    """SmolLM2-135M, Qwen2.5-0.5B, Llama 3.2 1B, Llama 3.1 8B, each by its own count."""
    counts = (134_515_008, 494_032_768, 1_235_814_400, 8_030_261_248)
    for count, rate in zip(counts, (5e-6, 2e-6, 1e-6, 1e-6), strict=True):
        assert suited_rates(count, lora=False).policy == pytest.approx(rate, rel=0.05)
