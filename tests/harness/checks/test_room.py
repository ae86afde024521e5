"""What is left open is chosen so that it fits: the tokens of a micro-batch, checkpointing."""

from types import SimpleNamespace

import pytest
import torch

from datamodules.demonstrations import DemonstrationDataModule
from harness.checks import room
from harness.checks.memory import sizes_of, update_growth
from harness.checks.room import SHARE, make_room, make_room_for_supervised
from lightning_modules.forward.checkpointing import is_checkpointed
from lightning_modules.forward.saved import saved_bytes
from tests.harness.checks.test_selfcheck import Bench
from tests.lightning_modules.supervised_parts import make_sft

PROMPTS = [[1] * 10, [1] * 20]
OPEN = {"micro_batch_size": None, "micro_batch_tokens": "auto"}


class Plugin:
    def train_step_context(self):
        return torch.autocast("cpu", enabled=False)


def trainer(device: str = "cpu"):
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(
        strategy=strategy, precision_plugin=Plugin(), num_devices=1, world_size=1
    )


@pytest.fixture
def bench(world, encoder, tmp_path) -> Bench:
    return Bench(world, encoder, tmp_path)


def chosen(module, free: float | None, monkeypatch, checkpointing="auto"):
    """Tokens and checkpointing where so many bytes are left for activations."""
    states = 3 * sum(p.numel() * p.element_size() for p in module.trained_parameters())
    total = None if free is None else int((free + states) / SHARE) + 1
    monkeypatch.setattr(room, "free_bytes", lambda *_: total)
    make_room(module, trainer(), PROMPTS, checkpointing)
    return module.micro_batches.tokens, is_checkpointed(module.model)


def test_as_many_tokens_as_fit_and_activations_again_where_few_do_not(bench, monkeypatch):
    module = bench.module(prompts_per_iteration=512, minibatches=1, **OPEN)
    sizes = sizes_of(module, PROMPTS, 1)
    assert (sizes.tokens, sizes.micro_batch) == (36, 4096 // 36)
    kept, again = update_growth(module, sizes)
    assert chosen(module, kept.of(4096), monkeypatch) == (4096, False)
    assert chosen(module, kept.of(113), monkeypatch) == (113 * 36, False)
    # Less than that is no reason to go without, as long as there is another way.
    tokens, on = chosen(module, kept.of(112), monkeypatch)
    assert on
    assert 113 * 36 <= tokens <= 4096
    assert chosen(module, again.of(5), monkeypatch) == (5 * 36, True)
    assert chosen(module, 0, monkeypatch) == (36, True)  # one response, whatever comes of it
    assert chosen(module, kept.of(5), monkeypatch, checkpointing=False) == (5 * 36, False)


def test_a_small_minibatch_needs_no_more_than_itself(bench, monkeypatch):
    module = bench.module(prompts_per_iteration=8, minibatches=2, **OPEN)
    kept, _ = update_growth(module, sizes_of(module, PROMPTS, 1))
    assert chosen(module, kept.of(4), monkeypatch) == (4 * 36, False)
    assert chosen(module, kept.of(3), monkeypatch)[1]


@pytest.mark.parametrize("checkpointing", ["auto", True, False])
def test_what_is_said_is_kept_whatever_is_free(bench, monkeypatch, checkpointing):
    module = bench.module(micro_batch_size=4, micro_batch_tokens=100)
    on = chosen(module, 0, monkeypatch, checkpointing=checkpointing)
    assert on == (100, checkpointing in ("auto", True))
    assert chosen(module, 2**40, monkeypatch, checkpointing)[1] == (checkpointing is True)


def test_where_it_is_not_known_what_is_free_little_is_taken(bench, monkeypatch):
    module = bench.module(**OPEN)
    assert chosen(module, None, monkeypatch) == (4096, False)


def test_supervised_training_computes_again_what_does_not_fit(bench, monkeypatch):
    module = make_sft(micro_batch_tokens=200)
    module.bind(bench.module().model.lm)
    data = DemonstrationDataModule(bench.world, bench.encoder, 16, 200, seed=0)
    largest = data.largest()
    part = data.collate(largest)
    rows = sorted(data.rows["train"], key=data.length)[-16:]
    sizes = [data.collate(each)["input_ids"].numel() for each in data.micro_batches(rows)]
    assert part["input_ids"].numel() == max(sizes)
    needed = saved_bytes(module.model, lambda: [module.losses(part)])
    trained = 4 * sum(p.numel() for p in module.model.parameters())  # by SGD, without states
    for share, on in ((1.1, False), (0.9, True)):
        free = int((share * needed + trained) / SHARE)
        monkeypatch.setattr(room, "free_bytes", lambda *_, free=free: free)
        for option, expected in (("auto", on), (True, True), (False, False)):
            make_room_for_supervised(module, trainer(), data, option)
            assert is_checkpointed(module.model) == expected
