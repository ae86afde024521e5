"""A device that runs out of memory once: the run goes on with the same numbers."""

from functools import partial

import pytest
import torch

from lightning_modules.errors import TrainingError
from lightning_modules.manual import ManualModule
from lightning_modules.models.reference import Reference
from tests.lightning_modules.tiny_runs import fit, make, ready

SAME = 1e-10
BY_TOKENS = {"micro_batch_size": None, "micro_batch_tokens": 24}
BY_SIZE = {"micro_batch_size": 3}


def fault(monkeypatch, owner, name: str, calls: set[int], *, after: bool = False) -> None:
    """Let these calls of a method run out of memory: before they have done anything, or after."""
    method, count = getattr(owner, name), iter(range(10_000))

    def faulty(*args, **kwargs):
        fails = next(count) in calls
        if fails and not after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        result = method(*args, **kwargs)
        if fails:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return result

    monkeypatch.setattr(owner, name, faulty)


def trained(algorithm: str, folder, **options):
    """What a run logs, where its weights end, and what it says."""
    # Adam would divide what is rounding in some gradients by as little.
    optimizer = partial(torch.optim.SGD, lr=0.1)
    options = {"iterations": 1, "max_grad_norm": 1.0, "optimizer": optimizer} | options
    module, _ = ready(make(algorithm, **options), kind="gpt2")
    said = []
    module.micro_batches.say = said.append
    rows = fit(module, folder)
    weights = torch.cat([p.detach().flatten() for p in module.model.parameters()])
    kept = [
        {k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))} for row in rows
    ]
    return kept, weights, said


def same(one, other) -> None:
    for row, expected in zip(one[0], other[0], strict=True):
        assert row == pytest.approx(expected, rel=SAME, abs=SAME, nan_ok=True)
    assert torch.allclose(one[1], other[1], rtol=0, atol=SAME)


@pytest.mark.parametrize(
    ("algorithm", "limits", "owner", "name", "call", "after"),
    [
        (
            "ppo",
            BY_TOKENS,
            Reference,
            "logprobs",
            1,
            False,
        ),  # in the second micro-batch of a rollout
        ("ppo", BY_TOKENS, ManualModule, "accumulate", 1, True),  # once two gradients are there
        ("a2c", BY_SIZE, ManualModule, "manual_backward", 4, True),  # while values are fitted alone
        ("rloo", BY_SIZE, ManualModule, "accumulate", 0, False),
    ],
)
def test_a_step_that_ran_out_of_memory_is_begun_anew(
    algorithm, limits, owner, name, call, after, tmp_path, monkeypatch
):
    whole = trained(algorithm, tmp_path / "whole", **limits)
    assert whole[2] == []
    fault(monkeypatch, owner, name, {call}, after=after)
    again = trained(algorithm, tmp_path / "again", **limits)
    assert len(again[2]) == 1
    same(again, whole)


def test_a_second_time_in_a_step_ends_the_run(tmp_path, monkeypatch):
    fault(monkeypatch, Reference, "logprobs", {0, 1})
    with pytest.raises(TrainingError, match=r"^out of memory .*algo\.micro_batch_tokens"):
        trained("ppo", tmp_path, **BY_TOKENS)


def test_in_another_step_it_is_halved_again(tmp_path, monkeypatch):
    module, _ = ready(make("ppo", iterations=2, **BY_TOKENS))
    said = []
    module.micro_batches.say = said.append
    fault(monkeypatch, Reference, "logprobs", {0})
    fault(monkeypatch, ManualModule, "accumulate", {0})
    fit(module, tmp_path)
    assert module.micro_batches.tokens == 6
    assert len(said) == 2
