"""What the value function is taught, and what its errors mean when it has learned it."""

import pytest
import torch
from torch import Tensor

from lightning_modules.a2c import A2C
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.objectives.losses import value_error
from lightning_modules.objectives.masked import aggregate
from lightning_modules.ppo import PPO
from tests.exact.world import (
    DTYPE,
    OPTIONS,
    RESPONSES,
    STATES,
    TableCritic,
    bound,
    exact_values,
    log_probabilities,
    rollout_of,
    score_table,
    sum_by_state,
    tiny_lm,
    visits,
)

KINDS = ("recurrent", "gpt2", "llama")
ALL = list(range(len(RESPONSES)))
BETA, SCORES = OPTIONS["beta"], score_table()
TOLERANCE = 1e-11


def worst(a: Tensor, b: Tensor) -> float:
    """The largest difference, in units of the largest of `b`."""
    return float((a - b).abs().max() / b.abs().max())


def module(algorithm: type, kind: str, values: Tensor, lam: float):
    """A2C or PPO with a table for a critic."""
    lm, ref = tiny_lm(kind, 0), tiny_lm(kind, 1)
    own = {"lam": lam, "value_coef": 0.5, "whiten_advantages": False}
    own |= {"value_updates": 1} if algorithm is A2C else {"clip_range": 0.2}
    model = ActorCritic(lm, critic=TableCritic(values))
    return bound(algorithm(**OPTIONS | {"critic": "copy"} | own), model, ref, SCORES)


def log_tables(kind: str) -> tuple[Tensor, Tensor]:
    return tuple(log_probabilities(tiny_lm(kind, seed)).detach() for seed in (0, 1))


def minimiser(loss: Tensor, table: Tensor) -> Tensor:
    """Of a loss that is quadratic in the table, each state for itself: one step of Newton."""
    (slope,) = torch.autograd.grad(loss, table, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), table)
    return (table - slope / curvature).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_returns_teach_the_values_of_the_policy(kind, measured):
    """From random values, by the loss of a policy step and by that of the steps of values alone."""
    logp, logref = log_tables(kind)
    exact = exact_values(logp, logref, SCORES, BETA)
    random = torch.randn(len(STATES), generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    a2c = module(A2C, kind, random, lam=0.5)
    rollout = rollout_of(a2c, ALL, left_padding=1)
    parts = rollout.sequences, rollout.prompt_mask, rollout.response_mask
    table = a2c.model.critic.table
    p = logp.exp()[:, None]

    errors, _ = a2c.token_loss(rollout, a2c.model(*parts, 1.0))
    learned = minimiser(aggregate(p * errors, rollout.response_mask, 1.0), table)
    measured(f"E7 A2C's loss is least at V^pi: {kind}", worst(learned, exact), TOLERANCE)

    errors = value_error(a2c.model.values(*parts), rollout.returns)
    learned = minimiser(aggregate(p * errors, rollout.response_mask, 1.0), table)
    measured(f"E7 A2C's value updates are done at V^pi: {kind}", worst(learned, exact), TOLERANCE)


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo_stays_at_the_exact_values_for_every_lam(kind, lam, measured):
    """Its targets A + V are bootstrapped, but V^pi is their fixed point."""
    logp, logref = log_tables(kind)
    exact = exact_values(logp, logref, SCORES, BETA)
    ppo = module(PPO, kind, exact, lam)
    rollout = rollout_of(ppo, ALL)
    new = ppo.model(rollout.sequences, rollout.prompt_mask, rollout.response_mask, 1.0)
    errors, _ = ppo.token_loss(rollout, new)
    weighed = aggregate(logp.exp()[:, None] * errors, rollout.response_mask, 1.0)
    learned = minimiser(weighed, ppo.model.critic.table)
    measured(
        f"E7 V^pi is a fixed point of PPO: {kind}, lam={lam}", worst(learned, exact), TOLERANCE
    )


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_with_exact_values_no_advantage_is_expected_in_any_state(kind, lam, measured):
    """For lam=0: E[delta_t | s_t] = 0."""
    logp, logref = log_tables(kind)
    a2c = module(A2C, kind, exact_values(logp, logref, SCORES, BETA), lam)
    advantages = rollout_of(a2c, ALL).advantages
    expected = sum_by_state(logp.exp()[:, None] * advantages) / visits(logp)
    error = expected.abs().max() / advantages.abs().max()
    measured(f"E7 E[A_t | s_t] = 0 with the exact V: {kind}, lam={lam}", error, TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_with_exact_values_the_one_step_advantage_is_q_minus_v(kind, measured):
    """Q(s, a) is the mean return of the responses that go on from s with a."""
    logp, logref = log_tables(kind)
    rollout = rollout_of(module(A2C, kind, exact_values(logp, logref, SCORES, BETA), 0.0), ALL)
    errors = []
    for i, y in enumerate(RESPONSES):
        for t in range(len(y)):
            on = torch.tensor([z[: t + 1] == y[: t + 1] for z in RESPONSES])
            share = logp[on].softmax(0)
            q = share @ rollout.returns[on, t]
            errors.append(rollout.advantages[i, t] - (q - rollout.values[i, t]))
    error = torch.stack(errors).abs().max() / rollout.advantages.abs().max()
    measured(f"E7 delta = Q - V with the exact V: {kind}", error, TOLERANCE)
