"""Iterations in which the value function alone learns, before the policy does."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from lightning_modules.errors import OptionError
from lightning_modules.objectives.advantages import rewards_to_go
from lightning_modules.objectives.masked import aggregate
from tests.lightning_modules.tiny_runs import fit, make, policy_and_values, ready, weights

CRITICS = [("head", False), ("copy", False), ("head", True), ("adapter", True), ("copy", True)]
ALGORITHMS = ["a2c", "ppo"]
WARMUP = 2


class Watch(Callback):
    """Weights and the optimiser's state after every iteration."""

    def __init__(self):
        self.weights, self.of_policy, self.beta = [], [], []

    def on_train_epoch_end(self, trainer, module):
        self.weights.append(policy_and_values(module))
        optimizer = trainer.optimizers[0]
        self.of_policy.append([optimizer.state.get(p) for p in optimizer.param_groups[0]["params"]])
        self.beta.append(module.beta)


def watched(algorithm, folder, *, lora=False, **options):
    """(module, rows, rollouts, what was seen) of a run."""
    module, rollouts = ready(make(algorithm, **options), lora=lora)
    watch = Watch()
    start = policy_and_values(module)
    rows = fit(module, folder, callbacks=[watch])
    watch.weights.insert(0, start)
    return module, rows, rollouts, watch


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("critic", "lora"), CRITICS)
def test_the_value_function_learns_and_all_else_stays_to_the_bit(algorithm, critic, lora, tmp_path):
    """Momentum and weight decay would move a policy even where its gradient is 0."""
    options = {
        "critic": critic,
        "lora": lora,
        "critic_warmup": WARMUP,
        "iterations": 1,
        "optimizer": partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1),
        "adaptive_beta": {"target": 1e-3, "horizon": 20.0},
    }
    _, rows, _, watch = watched(algorithm, tmp_path, **options)
    (start, _), *_ = watch.weights
    for policy, _ in watch.weights[: WARMUP + 1]:
        assert torch.equal(policy, start)
    assert not torch.equal(watch.weights[-1][0], start)
    values = [of_values for _, of_values in watch.weights]
    assert all(not torch.equal(a, b) for a, b in pairwise(values))
    assert not any(map(any, watch.of_policy[:WARMUP]))
    assert all(watch.of_policy[-1])
    assert watch.beta[:WARMUP] == [0.3] * WARMUP != watch.beta[1:]
    assert [row["train/steps"] for row in rows[:WARMUP]] == [0] * WARMUP
    assert [row["rollout/episodes"] for row in rows] == [8, 16, 24]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_its_steps_are_as_many_as_an_updates_and_go_down_the_error_of_rewards_to_go(
    algorithm, tmp_path
):
    """Steps of SGD by hand; lambda, the coefficient of values and micro-batches are not in them."""
    lr, options = 0.05, {"critic": "copy", "critic_warmup": 1, "iterations": 1, "lam": 0.3}
    optimizer = partial(torch.optim.SGD, lr=lr)
    # One minibatch, so that its order does not matter.
    several = {"epochs": 3, "minibatches": 1} if algorithm == "ppo" else {"value_updates": 3}
    module, rows, (batch, _), watch = watched(
        algorithm, tmp_path, optimizer=optimizer, micro_batch_size=3, **several, **options
    )
    torch.testing.assert_close(
        batch.returns, rewards_to_go(batch.rewards, batch.response_mask), rtol=0, atol=1e-12
    )
    (_, before), (_, after), _ = watch.weights
    parameters = module.model.value_parameters()
    torch.nn.utils.vector_to_parameters(before, parameters)
    losses = []
    for _ in range(3):
        values = module.model.values(batch.sequences, batch.prompt_mask, batch.response_mask)
        errors = 0.5 * (values - rewards_to_go(batch.rewards, batch.response_mask)).square()
        loss = aggregate(errors, batch.response_mask, len(batch))
        losses.append(float(loss))
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= lr * g
    torch.testing.assert_close(after, weights(*parameters), rtol=0, atol=1e-12)
    logged = sum(losses) / 3 if algorithm == "ppo" else losses[0]
    assert rows[0]["train/value_loss"] == pytest.approx(logged, rel=1e-6)  # logged in float32


def test_learning_rates_and_evaluations_are_those_of_the_iterations_after_it(tmp_path):
    options = {"iterations": 5, "evaluate_every": 2, "critic": "head", "lr_decay": "linear"}
    _, plain, _, _ = watched("ppo", tmp_path / "plain", **options)
    _, warmed, _, _ = watched("ppo", tmp_path / "warmed", critic_warmup=3, **options)
    assert [row["train/lr"] for row in warmed[3:]] == [row["train/lr"] for row in plain]
    evaluated = ["val/score" in row for row in plain]
    assert evaluated == [False, True, False, True, True]
    assert ["val/score" in row for row in warmed] == [False] * 3 + evaluated


def timeless(rows):
    """What was logged, without times."""
    return [
        {k: float(v) for k, v in row.items() if not k.startswith(("time/", "throughput/"))}
        for row in rows
    ]


@pytest.mark.parametrize("after", [1, WARMUP, WARMUP + 1])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_that_stops_within_it_or_at_its_end_goes_on_as_if_it_had_not(
    algorithm, after, tmp_path
):
    options = {"critic": "copy", "critic_warmup": WARMUP, "normalise_scores": True}
    whole, rows, _, _ = watched(algorithm, tmp_path / "whole", **options)
    part, _ = ready(make(algorithm, **options))
    fit(part, tmp_path / "part", iterations=after)
    (checkpoint,) = tmp_path.glob(f"part/epoch={after - 1}.ckpt")
    later, _ = ready(make(algorithm, **options))
    again = fit(later, tmp_path / "part", resume=checkpoint)
    for was, now in zip(policy_and_values(whole), policy_and_values(later), strict=True):
        assert torch.equal(was, now)
    assert timeless(again) == timeless(rows[after:])


@pytest.mark.parametrize(("option", "value"), [("critic_warmup", 3), ("critic_from", "x")])
def test_it_belongs_to_algorithms_with_a_critic(option, value):
    with pytest.raises(OptionError, match=rf"algo\.{option}={value}: belongs to algo=a2c and"):
        make("rloo", **{option: value})
    with pytest.raises(OptionError, match=r"algo\.critic_warmup=-1: must be at least 0"):
        make("ppo", critic_warmup=-1)
