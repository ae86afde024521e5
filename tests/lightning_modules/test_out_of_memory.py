"""A device that runs out of memory once: the run goes on with the same numbers."""

from functools import partial

import pytest
import torch

from lightning_modules.errors import TrainingError
from lightning_modules.manual import ManualModule
from lightning_modules.models.reference import Reference
from lightning_modules.rollouts.sampler import Sampler
from tests.lightning_modules.tiny_runs import fit, make, policy_and_values, ready

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
        ("rloo", BY_TOKENS, Sampler, "__call__", 0, True),
    ],
    ids=["reference", "gradient", "values", "at once", "sampling"],
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


def test_a_sampler_takes_less_until_it_takes_one_response(tmp_path, monkeypatch):
    """Of two responses to each of eight prompts; those of one prompt are taken apart at last."""
    whole = trained("rloo", tmp_path / "whole")
    fault(monkeypatch, Sampler, "__call__", set(range(4)))
    again = trained("rloo", tmp_path / "again")
    told = "out of memory: from here on the sampler takes {} responses"
    assert again[2] == [told.format(n) for n in (8, 4, 2, 1)]
    same(again, whole)
    fault(monkeypatch, Sampler, "__call__", set(range(5)))
    with pytest.raises(TrainingError, match=r"^out of memory .*lower data\.max_prompt_tokens"):
        trained("rloo", tmp_path / "never")


def test_in_another_step_it_is_halved_again(tmp_path, monkeypatch):
    module, _ = ready(make("ppo", iterations=2, **BY_TOKENS))
    said = []
    module.micro_batches.say = said.append
    fault(monkeypatch, Reference, "logprobs", {0})
    fault(monkeypatch, ManualModule, "accumulate", {0})
    fit(module, tmp_path)
    assert module.micro_batches.tokens == 6
    assert len(said) == 2


def test_a_run_that_goes_on_keeps_what_was_chosen_to_the_bit(tmp_path):
    options = {"iterations": 3, "micro_batch_size": None, "micro_batch_tokens": "auto"}
    whole, _ = ready(make("ppo", **options))
    whole.micro_batches.tokens = 24
    rows = fit(whole, tmp_path / "whole")
    again, _ = ready(make("ppo", **options))
    assert again.micro_batches.tokens > 24
    (checkpoint,) = (tmp_path / "whole").glob("*epoch=0*.ckpt")
    later = fit(again, tmp_path / "again", resume=checkpoint)
    assert again.micro_batches.tokens == 24
    for a, b in zip(policy_and_values(again), policy_and_values(whole), strict=True):
        assert torch.equal(a, b)
    assert len(later) == len(rows) - 1
