import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from lightning_modules.errors import OptionError
from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.objectives.advantages import gae
from lightning_modules.objectives.losses import policy_gradient
from lightning_modules.ppo import PPO
from lightning_modules.rollouts.rollout import Rollout
from tests.lightning_modules.objectives.test_masked import on_ranks

MASK = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()


def make(**options) -> PPO:
    defaults = {
        "name": "ppo",
        "iterations": 2,
        "prompts_per_iteration": 4,
        "samples_per_prompt": 1,
        "epochs": 1,
        "minibatches": 1,
        "micro_batch_size": 2,
        "temperature": 1.0,
        "beta": 0.1,
        "gamma": 1.0,
        "lam": 0.95,
        "missing_eos_penalty": 0.0,
        "critic": "head",
        "normalise": "sequences",
        "max_grad_norm": 1.0,
        "optimizer": partial(torch.optim.Adam, lr=1e-3),
        "value_lr": None,
        "lr_decay": "none",
        "evaluate_every": 1,
        "val_prompts": 4,
        "seed": 0,
        "clip_range": 0.2,
        "value_clip_range": None,
        "value_coef": 0.5,
        "whiten_advantages": False,
    }
    module = PPO(**defaults | options)
    module.sum_over_ranks = lambda x: x
    return module


def rollout() -> Rollout:
    generator = torch.Generator().manual_seed(0)

    def tokens():
        return torch.randn(2, 3, generator=generator, dtype=torch.float64) * MASK

    return Rollout(
        prompt_mask=torch.ones(2, 2).bool(),
        sequences=torch.zeros(2, 5, dtype=torch.long),
        response_mask=MASK,
        stopped=torch.ones(2).bool(),
        old_logprobs=-tokens().abs(),
        entropy=tokens().abs(),
        ref_logprobs=-tokens().abs(),
        values=tokens(),
        scores=torch.zeros(2),
        rewards=tokens(),
    )


def test_weigh_gives_gae_and_the_returns_that_belong_to_it():
    collected = rollout()
    weighed = make(gamma=0.9, lam=0.7).weigh(collected)
    expected = gae(collected.rewards, collected.values, MASK, 0.9, 0.7)
    assert torch.equal(weighed.advantages, expected)
    assert torch.allclose(weighed.returns - collected.values, expected)


def test_whitening_changes_advantages_and_leaves_returns():
    plain, white = (make(whiten_advantages=w).weigh(rollout()) for w in (False, True))
    assert torch.equal(plain.returns, white.returns)
    assert white.advantages[MASK].mean().abs() < 1e-12
    assert math.isclose(white.advantages[MASK].var(correction=0), 1, rel_tol=1e-6)


def test_at_the_policy_that_sampled_the_gradient_is_the_policy_gradient():
    batch = make().weigh(rollout())
    logprobs = batch.old_logprobs.clone().requires_grad_()
    loss, stats = make(value_coef=0.0).token_loss(batch, TokenOutputs(logprobs, None, batch.values))
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    expected, _ = policy_gradient(logprobs, batch.advantages)
    assert torch.allclose(gradient, torch.autograd.grad(expected.sum(), logprobs)[0], atol=1e-12)
    assert stats["clip_fraction"].sum() == 0


def test_the_loss_is_policy_plus_weighted_value_loss():
    batch = make().weigh(rollout())
    new = TokenOutputs(batch.old_logprobs + 0.1, None, batch.values + 0.3)
    loss, stats = make(value_coef=0.7).token_loss(batch, new)
    assert torch.allclose(loss, stats["policy_loss"] + 0.7 * stats["value_loss"])
    assert torch.allclose(stats["value_loss"], 0.5 * (new.values - batch.returns) ** 2)


def test_value_clipping_is_an_option():
    batch = make().weigh(rollout())
    new = TokenOutputs(batch.old_logprobs, None, batch.returns)
    assert (make().token_loss(batch, new)[1]["value_loss"] == 0).all()
    clipped = make(value_clip_range=0.1).token_loss(batch, new)[1]["value_loss"]
    distance = (batch.returns - batch.values).abs()
    assert torch.allclose(clipped, 0.5 * (distance - 0.1).clamp(min=0) ** 2)


def test_on_two_ranks_advantages_are_whitened_together():
    collected = rollout()
    expected = make(whiten_advantages=True).weigh(collected).advantages

    def work(row, all_reduce):
        module = make(whiten_advantages=True)
        module.sum_over_ranks = all_reduce
        return module.weigh(collected.select(torch.tensor([row]))).advantages[0]

    for advantages, whole in zip(on_ranks(work, [(0,), (1,)]), expected, strict=True):
        torch.testing.assert_close(advantages, whole[: len(advantages)], rtol=0, atol=1e-12)


def loss_at(ratio: float, advantage: float, **options) -> tuple[float, float]:
    """PPO's loss of one token whose probability has changed by `ratio`, and clip_fraction."""
    one = torch.ones(1, 1, dtype=torch.float64)
    batch = replace(
        rollout(), response_mask=one.bool(), old_logprobs=-one, advantages=advantage * one
    )
    batch = replace(batch, values=one, returns=one)
    new = TokenOutputs(batch.old_logprobs + math.log(ratio), None, one)
    loss, stats = make(**options).token_loss(batch, new)
    assert torch.equal(loss, stats["policy_loss"])
    return float(loss), float(stats["clip_fraction"])


@pytest.mark.parametrize("clip_range", [0.2, [0.2, 0.2], (0.2, 0.2)])
def test_one_number_is_both_sides_of_the_range(clip_range):
    assert loss_at(1.5, 2.0, clip_range=clip_range) == pytest.approx((-2.4, 1.0))
    assert loss_at(0.5, -2.0, clip_range=clip_range) == pytest.approx((1.6, 1.0))


def test_a_range_of_two_numbers_is_low_then_high():
    assert loss_at(1.5, 2.0, clip_range=[0.1, 0.4]) == pytest.approx((-2.8, 1.0))
    assert loss_at(0.5, -2.0, clip_range=[0.1, 0.4]) == pytest.approx((1.8, 1.0))


def test_dual_clip_is_an_option():
    assert loss_at(10.0, -2.0) == pytest.approx((20.0, 0.0))
    assert loss_at(10.0, -2.0, dual_clip=3.0) == pytest.approx((6.0, 1.0))
    assert loss_at(2.0, -2.0, dual_clip=3.0) == pytest.approx((4.0, 0.0))


def test_a_nan_in_a_masked_slot_of_the_scores_of_others_changes_nothing():
    collected = rollout()
    poison = torch.where(MASK, collected.rewards, torch.nan)
    clean = make(whiten_advantages=True).weigh(collected).advantages
    dirty = make(whiten_advantages=True).weigh(replace(collected, rewards=poison)).advantages
    assert torch.equal(clean, dirty)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clip_range", 0.0),
        ("clip_range", -0.1),
        ("clip_range", float("nan")),
        ("clip_range", None),
        ("clip_range", [0.2]),
        ("clip_range", [0.2, 0.3, 0.4]),
        ("clip_range", [0.0, 0.2]),
        ("clip_range", [0.2, -0.3]),
        ("dual_clip", 1.0),
        ("dual_clip", 0.3),
        ("dual_clip", float("nan")),
        ("value_clip_range", 0.0),
        ("value_coef", -1.0),
        ("critic", None),
        ("critic", "none"),
        ("lam", 1.01),
        ("gamma", -0.01),
        ("beta", -0.1),
        ("temperature", 0.0),
        ("samples_per_prompt", 0),
        ("minibatches", 3),
        ("iterations", 0),
        ("normalise", "batch"),
        ("lr_decay", "cosine"),
        ("max_grad_norm", 0.0),
    ],
)
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(OptionError, match=rf"^algo\.{option}={re.escape(str(value))}: must"):
        make(**{option: value})
