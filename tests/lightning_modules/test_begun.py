"""The pass that gives old log-probabilities is the first optimiser step's where both are one."""

from functools import partial

import pytest
import torch

from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.collection import Collector
from tests.lightning_modules.test_out_of_memory import fault
from tests.lightning_modules.tiny_runs import fit, make, ready, run, weights

ONE_STEP = {"minibatches": 1, "epochs": 2, "iterations": 2}


def trained(algorithm, folder, **options):
    """Where weights end and what is logged, but for times."""
    module, rows, _ = run(algorithm, folder, **options)
    return weights(*module.model.parameters()), list(map(untimed, rows))


def untimed(row):
    return {k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))}


@pytest.fixture
def forwards(monkeypatch):
    """How often the policy's layers were run with gradients."""
    calls, forward = [], ActorCritic.passes

    def counted(self, *args, **kwargs):
        calls.append(torch.is_grad_enabled())
        yield from forward(self, *args, **kwargs)

    monkeypatch.setattr(ActorCritic, "passes", counted)
    return calls


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("reinforce", {"importance": "token"}),
        ("rloo", {"samples_per_prompt": 4, "kind": "llama", "importance": "token"}),
        ("a2c", {"critic": "adapter", "lora": True, "epochs": 1}),
        ("ppo", {"critic": "head", "entropy_coef": 0.1}),
        ("ppo", {"critic": "copy", "kind": "llama", "micro_batch_tokens": 10**6}),
        ("ppo", {"critic": "copy", "lora": True, "one_base": True, "critic_warmup": 1}),
    ],
)
def test_a_run_is_the_same_to_the_bit_with_passes_made_anew(
    algorithm, options, tmp_path, forwards, monkeypatch
):
    ends, rows = trained(algorithm, tmp_path / "begun", **ONE_STEP | options)
    updates = (ONE_STEP | options)["epochs"] * ONE_STEP["iterations"]
    assert forwards == [True] * updates
    monkeypatch.setattr(Collector, "begun_on", lambda self, rollout: [])
    others, rows_of_others = trained(algorithm, tmp_path / "anew", **ONE_STEP | options)
    assert len(forwards) == 2 * updates + ONE_STEP["iterations"]
    assert torch.equal(ends, others)
    assert rows == rows_of_others


def test_and_the_same_but_for_rounding_where_nothing_is_begun_early(tmp_path, monkeypatch):
    # Sequences are in another order then. Adam would divide what is rounding by as little.
    optimizer = partial(torch.optim.SGD, lr=0.1)
    options = ONE_STEP | {"critic": "copy", "optimizer": optimizer}
    ends, _ = trained("ppo", tmp_path / "early", **options)
    monkeypatch.setattr(PolicyModule, "_begins_early", lambda self: False)
    others, _ = trained("ppo", tmp_path / "late", **options)
    assert (ends - others).abs().max() < 1e-10


@pytest.mark.parametrize("options", [{"minibatches": 2}, {"micro_batch_size": 3}])
def test_where_the_step_is_another_it_has_passes_of_its_own(options, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        Collector,
        "begun_on",
        lambda self, rollout: begun.append(self._begun) or [],
    )
    run("ppo", tmp_path, **ONE_STEP | {"critic": "copy"} | options)
    assert begun == [None, None]


@pytest.mark.parametrize(
    ("owner", "name"),
    [(PolicyModule, "manual_backward"), (Reference, "logprobs"), (ActorCritic, "values")],
)
def test_a_step_that_runs_out_of_memory_is_begun_anew(owner, name, tmp_path, monkeypatch):
    # Adam would divide what is rounding in some gradients by as little.
    optimizer = partial(torch.optim.SGD, lr=0.1)
    options = ONE_STEP | {"critic": "copy", "iterations": 1, "optimizer": optimizer}
    expected, _ = trained("ppo", tmp_path / "well", **options)
    fault(monkeypatch, owner, name, {0})
    with pytest.warns(UserWarning, match="out of memory"):
        found, _ = trained("ppo", tmp_path / "failing", **options)
    assert (found - expected).abs().max() < 1e-10


def test_a_run_that_stops_goes_on_to_the_bit(tmp_path):
    options = ONE_STEP | {"critic": "copy", "iterations": 3}
    whole, rows, _ = run("ppo", tmp_path / "whole", **options)
    again, _ = ready(make("ppo", **options))
    later = fit(again, tmp_path / "again", resume=tmp_path / "whole" / "epoch=0.ckpt")
    assert torch.equal(weights(*again.model.parameters()), weights(*whole.model.parameters()))
    assert [untimed(row) for row in later] == [untimed(row) for row in rows[-len(later) :]]
