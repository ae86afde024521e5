"""A2C: which advantages, which targets, and further steps of the value function alone."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

from lightning_modules.errors import OptionError
from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import gae, rewards_to_go
from lightning_modules.objectives.masked import aggregate, masked, masked_sum
from lightning_modules.rollouts.rollout import Rollout
from tests.lightning_modules.objectives.test_masked import on_ranks
from tests.lightning_modules.test_ppo import MASK, rollout
from tests.lightning_modules.tiny_runs import fit, make, policy_and_values, ready, run, weights

CRITICS = [("head", False), ("copy", False), ("head", True), ("adapter", True), ("copy", True)]
ONCE = {"iterations": 1, "lr_decay": "none", "beta": 0.2}
LR = 0.05
SGD = partial(torch.optim.SGD, lr=LR)


def alone(**options):
    """A2C without models, on one rank."""
    module = make("a2c", **options)
    module.sum_over_ranks = lambda x: x
    return module


def value_loss(module, batch: Rollout) -> torch.Tensor:
    """1/2 (V - R)^2, summed over a response's tokens, averaged over responses."""
    values = module.model.values(batch.sequences, batch.prompt_mask, batch.response_mask)
    return aggregate(0.5 * (values - batch.returns).square(), batch.response_mask, len(batch))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_advantages_are_gae_and_targets_are_rewards_to_go_whatever_lambda_is(lam, gamma):
    collected = rollout()
    weighed = alone(lam=lam, gamma=gamma).weigh(collected)
    assert torch.equal(
        weighed.advantages, gae(collected.rewards, collected.values, MASK, gamma, lam)
    )
    assert torch.equal(weighed.returns, rewards_to_go(collected.rewards, MASK, gamma))


def test_lambda_0_is_the_lectures_one_step_advantage():
    collected = rollout()
    (r, _), (v, _) = collected.rewards.tolist(), collected.values.tolist()
    advantages = alone(lam=0.0).weigh(collected).advantages
    expected = [r[0] + v[1] - v[0], r[1] + v[2] - v[1], r[2] - v[2]]
    assert advantages[0].tolist() == pytest.approx(expected, abs=1e-14)


def test_lambda_1_is_reward_to_go_less_the_value():
    collected = rollout()
    (r, _), (v, _) = collected.rewards.tolist(), collected.values.tolist()
    advantages = alone(lam=1.0).weigh(collected).advantages
    expected = [sum(r) - v[0], r[1] + r[2] - v[1], r[2] - v[2]]
    assert advantages[0].tolist() == pytest.approx(expected, abs=1e-14)


def test_the_loss_is_the_policy_gradients_plus_the_weighted_value_loss():
    batch = alone().weigh(rollout())
    logprobs = batch.old_logprobs.clone().requires_grad_()
    values = (batch.values + 0.3).requires_grad_()
    loss, stats = alone(value_coef=0.7).token_loss(batch, TokenOutputs(logprobs, None, values))
    of_logprobs, of_values = torch.autograd.grad(masked_sum(loss, MASK).sum(), (logprobs, values))
    assert torch.equal(of_logprobs, -batch.advantages)
    torch.testing.assert_close(of_values, masked(0.7 * (values - batch.returns), MASK))
    torch.testing.assert_close(loss, stats["policy_loss"] + 0.7 * stats["value_loss"])


def test_whitening_is_over_all_ranks_and_leaves_the_targets():
    collected = rollout()
    plain, white = (alone(whiten_advantages=w).weigh(collected) for w in (False, True))
    assert torch.equal(plain.returns, white.returns)
    assert float(white.advantages[MASK].mean()) == pytest.approx(0, abs=1e-12)
    assert float(white.advantages[MASK].var(correction=0)) == pytest.approx(1, abs=1e-6)

    def work(row, all_reduce):
        module = alone(whiten_advantages=True)
        module.sum_over_ranks = all_reduce
        return module.weigh(collected.select(torch.tensor([row]))).advantages[0]

    for part, whole in zip(on_ranks(work, [(0,), (1,)]), white.advantages, strict=True):
        torch.testing.assert_close(part, whole[: len(part)], rtol=0, atol=1e-12)


def test_what_is_masked_changes_not_one_bit():
    collected = rollout()
    poisoned = replace(collected, rewards=collected.rewards.masked_fill(~MASK, torch.nan))
    for name in ("advantages", "returns"):
        clean, dirty = (getattr(alone(lam=0.5).weigh(x), name) for x in (collected, poisoned))
        assert torch.equal(clean, dirty)


# -- steps of the value function alone ------------------------------------------------------------


@pytest.mark.parametrize(("critic", "lora"), CRITICS)
def test_further_updates_are_steps_down_the_value_loss_and_nothing_else(critic, lora, tmp_path):
    """Two of them are two steps of SGD by hand, after the step that both runs share."""
    options = {"critic": critic, "lora": lora, "optimizer": SGD, **ONCE}
    once, _, (batch,) = run("a2c", tmp_path / "1", value_updates=1, **options)
    thrice, _, _ = run("a2c", tmp_path / "3", value_updates=3, micro_batch_size=3, **options)
    policy, before = policy_and_values(once)
    parameters = once.model.value_parameters()
    for _ in range(2):
        for p, g in zip(
            parameters, torch.autograd.grad(value_loss(once, batch), parameters), strict=True
        ):
            p.data -= LR * g
    after_policy, after = policy_and_values(thrice)
    # Micro-batches add up in another order.
    torch.testing.assert_close(after_policy, policy, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, weights(*parameters), rtol=0, atol=1e-12)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize(("critic", "lora"), CRITICS)
def test_further_updates_leave_the_policy_to_the_bit(critic, lora, tmp_path):
    """Momentum and weight decay would move it even where the gradient is 0."""
    adamw = partial(torch.optim.AdamW, lr=LR, weight_decay=0.1)
    options = {"critic": critic, "lora": lora, "optimizer": adamw, **ONCE}
    (policy, value), (same, other) = (
        policy_and_values(run("a2c", tmp_path / str(n), value_updates=n, **options)[0])
        for n in (1, 4)
    )
    assert torch.equal(policy, same)
    assert not torch.equal(value, other)


def test_the_more_updates_the_lower_the_value_loss(tmp_path):
    losses = []
    for n in (1, 2, 4, 8, 16):
        options = {"critic": "copy", "value_updates": n, "optimizer": SGD, **ONCE}
        module, rows, (batch,) = run("a2c", tmp_path / str(n), **options)
        losses.append(float(value_loss(module, batch)))
    assert all(fewer > more for fewer, more in pairwise(losses))
    # What is logged is the loss at the values that the advantages were made with.
    before = aggregate(
        0.5 * (batch.values - batch.returns).square(), batch.response_mask, len(batch)
    )
    # Lightning logs in float32.
    assert rows[0]["train/value_loss"] == pytest.approx(float(before), rel=1e-6)


@pytest.mark.parametrize("value_updates", [1, 5])
def test_of_so_many_steps_an_iteration_one_is_the_policys(value_updates, tmp_path):
    module, rows, _ = run("a2c", tmp_path, value_updates=value_updates)
    assert module.trainer.global_step == 3 * value_updates
    assert [row["train/steps"] for row in rows] == [1, 1, 1]
    assert all(row["train/ratio_max"] == pytest.approx(1, abs=1e-12) for row in rows)


def test_the_gradient_of_a_value_step_is_clipped_by_its_own_norm(tmp_path):
    options = {"critic": "copy", "optimizer": SGD, "max_grad_norm": 0.01, **ONCE}
    values = [
        policy_and_values(run("a2c", tmp_path / str(n), value_updates=n, **options)[0])[1]
        for n in (1, 2)
    ]
    assert float((values[1] - values[0]).norm()) == pytest.approx(LR * 0.01, rel=1e-4)


def test_value_steps_are_divided_by_tokens_if_losses_are(tmp_path):
    values = {}
    for normalise in ("sequences", "tokens"):
        options = {"critic": "copy", "optimizer": SGD, "normalise": normalise, **ONCE}
        # Without the shared step's value loss, so that both start the second from the same values.
        for n in (1, 2):
            module, rollouts = ready(make("a2c", value_updates=n, value_coef=1e-30, **options))
            fit(module, tmp_path / f"{normalise}{n}")
            values[normalise, n] = policy_and_values(module)[1]
    per_sequence = values["sequences", 2] - values["sequences", 1]
    per_token = values["tokens", 2] - values["tokens", 1]
    tokens_a_response = float(rollouts[0].response_mask.sum() / len(rollouts[0]))
    torch.testing.assert_close(per_sequence, tokens_a_response * per_token, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 1.5}, r"algo\.lam=1\.5: must lie in \[0, 1\]"),
        ({"lam": -0.1}, r"algo\.lam=-0\.1: must lie in \[0, 1\]"),
        ({"value_updates": 0}, r"algo\.value_updates=0: must be at least 1"),
        ({"value_coef": 0.0}, r"algo\.value_coef=0\.0: must be greater than 0"),
        ({"value_coef": float("nan")}, r"algo\.value_coef=nan: must be greater than 0"),
        ({"critic": None}, r"algo\.critic=None: must be given"),
        ({"critic": "backbone"}, r"algo\.critic=backbone: must be one of"),
        ({"epochs": 2}, r"algo\.epochs x algo\.minibatches=2: A2C makes one"),
        ({"minibatches": 2}, r"algo\.epochs x algo\.minibatches=2: A2C makes one"),
    ],
)
def test_nonsense_is_refused_by_name(options, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        make("a2c", **options)
