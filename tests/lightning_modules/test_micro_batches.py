"""Micro-batches change no step of SFT or of the reward model, and nothing that is logged."""

from functools import partial

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.preferences import PreferenceDataModule
from tests.exact.world import DTYPE
from tests.lightning_modules.supervised_parts import (
    MIXED,
    ROOM,
    THUMBS,
    Given,
    attach,
    batch_of,
    exact_lm,
    exact_scalar,
    make_reward_model,
    make_sft,
    weights,
)
from tests.properties.drawing import in_parallel

EQUAL = 1e-10
KINDS = {
    "sft": {},
    "bradley_terry": {},
    "everything": {
        "margin_coef": 0.3,
        "label_smoothing": 0.1,
        "tie_threshold": 0.4,
        "centring_coef": 0.05,
        "ensemble": 3,
    },
    "plackett_luce": {"loss": "plackett_luce", "ensemble": 2, "centring_coef": 0.1},
    "thumbs": {"loss": "thumbs", "ensemble": 2, "thumb_weight": 0.7, "label_smoothing": 0.1},
}
ROWS = {"thumbs": (*MIXED, *THUMBS)}


def parts_of(kind, encoder, budget, architecture="llama"):
    """A module, its model and data in micro-batches within `budget` tokens."""
    rows, options = ROWS.get(kind, MIXED), KINDS[kind] | {"max_grad_norm": 1.0}
    source = Given(rows * 2)
    if kind == "sft":
        data = DemonstrationDataModule(source, encoder, 12, budget, 0)
        return make_sft(**options), exact_lm(architecture, encoder), data
    heads = options.get("ensemble", 1)
    data = PreferenceDataModule(source, encoder, 12, budget, 0, heads)
    scalar = exact_scalar(architecture, encoder, heads)
    if kind == "thumbs":
        scalar.learn_thumbs_bias(0.4)
        scalar.to(DTYPE)
    return make_reward_model(**options), scalar, data


def step(kind, encoder, budget, architecture):
    module, model, data = parts_of(kind, encoder, budget, architecture)
    logged = attach(module, model)
    batch = batch_of(data, data.rows["train"])
    before = weights(module)
    module.training_step(batch, 0)
    return weights(module), weights(module) - before, logged, len(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_any_budget_makes_the_same_step_and_the_same_metrics(kind, architecture, encoder):
    whole, moved, logged, count = step(kind, encoder, ROOM, architecture)
    assert count == 1
    assert moved.norm() > 0.01
    numbers = set()
    for budget in (1, 150, 400):
        found, _, others, count = step(kind, encoder, budget, architecture)
        assert (found - whole).abs().max() < EQUAL
        assert others == pytest.approx(logged, rel=1e-6, abs=1e-9)
        numbers.add(count)
    assert max(numbers) == len(ROWS.get(kind, MIXED)) * 2 or kind == "sft"
    assert len(numbers) > 1


@pytest.mark.parametrize("kind", ["sft", "everything"])
def test_every_row_of_a_batch_counts_once_however_it_is_split(kind, encoder):
    """A step on two rows twice over is the step on them once; on one of them it is another."""
    module, model, data = parts_of(kind, encoder, ROOM)
    rows = data.rows["train"][:2]

    def after(rows, budget=ROOM):
        data.micro_batch_tokens = budget
        attach(module, model)
        module.training_step(batch_of(data, rows), 0)
        return weights(module)

    once = after(rows)
    assert (after(rows * 3, 200) - once).abs().max() < EQUAL
    assert (after(rows[:1]) - once).abs().max() > 1e-6


class Counting(DDPStrategy):
    """One rank that sees how gradients come in."""

    def __init__(self):
        super().__init__()
        self.synced = []
        self.blocked = False

    def backward(self, loss, optimizer):
        loss.backward()
        self.synced.append(not self.blocked)

    def block_backward_sync(self):
        strategy = self

        class Block:
            def __enter__(self):
                strategy.blocked = True

            def __exit__(self, *_):
                strategy.blocked = False

        return Block()


@pytest.mark.parametrize("kind", ["sft", "bradley_terry"])
def test_ranks_exchange_gradients_once_a_step(kind, encoder):
    module, model, data = parts_of(kind, encoder, 60)
    strategy = Counting()
    attach(module, model, strategy)
    batch = batch_of(data, data.rows["train"])
    assert len(batch) > 2
    module.training_step(batch, 0)
    assert strategy.synced == [False] * (len(batch) - 1) + [True]


@pytest.mark.parametrize("kind", ["sft", "everything"])
def test_ranks_of_unequal_size_make_the_step_of_one(kind, encoder):
    module, model, data = parts_of(kind, encoder, 200)
    logged = attach(module, model)
    rows = data.rows["train"]
    module.training_step(batch_of(data, rows), 0)
    expected = weights(module)

    def work(strategy):
        module, _, _ = parts_of(kind, encoder, 200)
        logged = attach(module, model, strategy, ranks=2)
        strategy.module = module.model
        module.training_step(batch_of(data, rows[:3] if strategy.rank == 0 else rows[3:]), 0)
        return weights(module), logged

    for found, others in in_parallel(2, partial(work)):
        assert (found - expected).abs().max() < EQUAL
        assert others == pytest.approx(logged, rel=1e-6, abs=1e-9)


def test_one_long_row_is_a_micro_batch_of_its_own(encoder):
    _, _, data = parts_of("bradley_terry", encoder, 1)
    parts = batch_of(data, data.rows["train"])
    assert [len(part["resampled"]) for part in parts] == [1] * len(MIXED) * 2
    assert torch.cat([part["comparison"] for part in parts]).eq(0).all()
