"""What a warm-up teaches the value function, and what it is worth to the policy's gradient."""

from copy import deepcopy

import pytest
import pytorch_lightning as pl
import torch

from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.ppo import PPO
from tests.exact.test_values import KINDS, worst
from tests.exact.trainer import distribution, fit, learner, pair_scores, ppo
from tests.exact.variance import token_gradients
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

ALL = list(range(len(RESPONSES)))
SCORES = pair_scores(2.0, seed=0)
WARMUP = 40


@pytest.mark.parametrize("lam", [0.0, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_its_targets_are_the_values_of_the_policy_whatever_lambda_is(kind, lam, measured):
    """From random values, of which the targets of a later iteration keep a share."""
    lm, ref = tiny_lm(kind, 0), tiny_lm(kind, 1)
    logp, logref = (log_probabilities(model).detach() for model in (lm, ref))
    exact = exact_values(logp, logref, score_table(), OPTIONS["beta"])
    random = torch.randn(len(STATES), generator=torch.Generator().manual_seed(0), dtype=DTYPE)

    def taught(critic_warmup: int) -> torch.Tensor:
        own = {"lam": lam, "value_coef": 0.5, "whiten_advantages": True, "clip_range": 0.2}
        algorithm = PPO(**OPTIONS | own | {"critic": "copy", "critic_warmup": critic_warmup})
        model = ActorCritic(lm, critic=TableCritic(random))
        rollout = rollout_of(bound(algorithm, model, ref, score_table()), ALL)
        return sum_by_state(logp.exp()[:, None] * rollout.returns) / visits(logp)

    claim = f"E7 a warm-up's targets expect V^pi from any V: {kind}, lam={lam}"
    measured(claim, worst(taught(critic_warmup=1), exact), 1e-11)
    assert worst(taught(critic_warmup=0), exact) > 0.01


class AtTheEndOfIt(pl.Callback):
    """The models before training and after the last iteration of the warm-up."""

    def on_train_start(self, trainer, module):
        self.before = deepcopy(module.model)

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch + 1 == module.options.critic_warmup:
            self.after = deepcopy(module.model)


@pytest.fixture(scope="module")
def warmed():
    seen = AtTheEndOfIt()
    options = {"critic": "copy", "critic_warmup": WARMUP, "iterations": 1, "epochs": 4}
    fit(ppo(**options), learner("llama"), SCORES, [seen])
    return seen


def of_critic(model: ActorCritic) -> tuple[float, float]:
    """Exactly: the share of the returns' variance that its values explain, over sampled tokens; and
    the variance of a response's policy gradient, lam = 1.
    """
    logp = distribution(model.lm)
    algorithm = ppo(critic="copy", lam=1.0, whiten_advantages=False, beta=OPTIONS["beta"])
    ref = deepcopy(model.lm)
    rollout = rollout_of(bound(algorithm, model, ref, SCORES), ALL)
    share = logp.exp()[:, None] * rollout.response_mask
    share = share / share.sum()

    def variance(x: torch.Tensor) -> torch.Tensor:
        return (share * (x - (share * x).sum()).square()).sum()

    explained = 1 - variance(rollout.returns - rollout.values) / variance(rollout.returns)
    gradients = token_gradients(model.lm, rollout)
    of_responses = torch.einsum("it,itd->id", rollout.advantages.double(), gradients)
    p = logp.exp()
    return float(explained), float(p @ (of_responses - p @ of_responses).square().sum(-1))


def test_it_leaves_the_policy_and_explains_what_can_be_explained(warmed):
    for before, after in zip(
        warmed.before.lm.parameters(), warmed.after.lm.parameters(), strict=True
    ):
        assert torch.equal(before, after)
    logp = distribution(warmed.after.lm)
    best = ActorCritic(
        warmed.after.lm, critic=TableCritic(exact_values(logp, logp, SCORES.double(), 0.0))
    )
    (none, noisy), (explained, less), (most, least) = map(
        of_critic, (warmed.before, warmed.after, best)
    )
    assert none == pytest.approx(0, abs=1e-6)
    assert most > 0.3, "nothing can be explained, so nothing is tested"
    assert explained > 0.9 * most
    # Of the noise that the exact values would take out of the policy's gradient.
    assert noisy - less > 0.8 * (noisy - least)
