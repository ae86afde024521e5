"""How far one response's gradient lies from the mean: the lecture's chain of estimators, exactly.

python -m tests.exact.variance
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.a2c import A2C
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.policy import PolicyModule
from lightning_modules.reinforce import Reinforce
from lightning_modules.rollouts.rollout import Rollout
from tests.exact.world import (
    DTYPE,
    OPTIONS,
    RESPONSES,
    TableCritic,
    bound,
    exact_values,
    flat,
    log_probabilities,
    rollout_of,
    score_table,
    tiny_lm,
)

WHOLE, TO_GO, TO_GO_V, Q, Q_V = (
    "whole return",
    "reward-to-go",
    "reward-to-go - V",
    "Q",
    "Q - V",
)
STEPS = ((WHOLE, TO_GO), (TO_GO, TO_GO_V), (TO_GO_V, Q_V), (TO_GO, Q), (Q, Q_V))
INSTANCES = [(kind, seed) for kind in ("recurrent", "gpt2", "llama") for seed in range(8)]


@dataclass(frozen=True)
class Instance:
    """A random policy, reference and score table, and what estimators make of all responses."""

    p: Tensor  # (121,) the probability of each response
    mask: Tensor  # (121, HORIZON)
    values: Tensor  # (121, HORIZON) the exact V
    weights: dict[str, Tensor]  # (121, HORIZON), by what each token's gradient is multiplied
    gradients: Tensor  # (121, HORIZON, D) of log pi(a_t | s_t)

    def of_weights(self, x: Tensor) -> Tensor:
        """The variance of a number a token, over the tokens that are sampled."""
        share = self.p[:, None] * self.mask
        share = share / share.sum()
        return (share * (x - (share * x).sum()).square()).sum()

    def of_tokens(self, x: Tensor) -> Tensor:
        """The trace of the covariance of x_t grad log pi(a_t | s_t), added up over t."""
        terms = x[..., None] * self.gradients
        mean = torch.einsum("i,itd->td", self.p, terms)
        return (self.p[:, None] * (terms - mean).square().sum(-1)).sum()

    def of_responses(self, x: Tensor) -> Tensor:
        """Trace of the covariance of a response's gradient, sum_t x_t grad log pi(a_t | s_t)."""
        responses = torch.einsum("it,itd->id", x, self.gradients)
        return self.p @ (responses - self.p @ responses).square().sum(-1)


def instance(kind: str, seed: int) -> Instance:
    lm, ref = tiny_lm(kind, 2 * seed), tiny_lm(kind, 2 * seed + 1)
    scores, beta = score_table(seed), OPTIONS["beta"]
    logp, logref = log_probabilities(lm).detach(), log_probabilities(ref).detach()
    model = ActorCritic(lm, critic=TableCritic(exact_values(logp, logref, scores, beta)))

    def rollout(module: PolicyModule) -> Rollout:
        return rollout_of(bound(module, model, ref, scores), list(range(len(RESPONSES))))

    whole, to_go = (rollout(_reinforce(returns)) for returns in ("sequence", "to_go"))
    monte_carlo, one_step = (rollout(_a2c(lam)) for lam in (1.0, 0.0))
    weights = {
        WHOLE: whole.advantages,
        TO_GO: to_go.advantages,
        TO_GO_V: monte_carlo.advantages,
        # What follows an action is certain: r + V(s') is Q, and the one-step advantage Q - V.
        Q: one_step.advantages + one_step.values,
        Q_V: one_step.advantages,
    }
    gradients = token_gradients(lm, to_go)
    return Instance(logp.exp(), to_go.response_mask, one_step.values, weights, gradients)


def _reinforce(returns: str) -> Reinforce:
    common = {name: value for name, value in OPTIONS.items() if name != "critic"}
    return Reinforce(**common, returns=returns, baseline="none", importance="none")


def _a2c(lam: float) -> A2C:
    own = {"lam": lam, "value_updates": 1, "value_coef": 1.0, "whiten_advantages": False}
    return A2C(**OPTIONS | own | {"critic": "copy"})


def token_gradients(lm: nn.Module, rollout: Rollout) -> Tensor:
    """The gradient of the log-probability of every token of every response, (121, HORIZON, D)."""
    masks = rollout.prompt_mask, rollout.response_mask
    logprobs = response_outputs(lm, rollout.sequences, *masks, OPTIONS["temperature"])[0].logprobs
    parameters = list(lm.parameters())
    of_prefix: dict[tuple[int, ...], Tensor] = {}
    result = torch.zeros(*logprobs.shape, sum(p.numel() for p in parameters), dtype=DTYPE)
    for i, y in enumerate(RESPONSES):
        for t in range(len(y)):
            # The same token after the same tokens has the same gradient.
            if y[: t + 1] not in of_prefix:
                grads = torch.autograd.grad(
                    logprobs[i, t], parameters, retain_graph=True, allow_unused=True
                )
                of_prefix[y[: t + 1]] = flat(grads, parameters)
            result[i, t] = of_prefix[y[: t + 1]]
    return result


def variance_table(kind: str = "llama", seed: int = 0) -> dict[str, float]:
    """By estimator, the variance of one response's gradient (the trace of its covariance)."""
    one = instance(kind, seed)
    return {name: float(one.of_responses(x)) for name, x in one.weights.items()}


def steps_held(instances: list[tuple[str, int]] = INSTANCES) -> dict[str, int]:
    """For each step of the chain, in how many instances it lowers the variance of the gradient."""
    tables = [variance_table(*one) for one in instances]
    return {f"{a} -> {b}": sum(table[b] < table[a] for table in tables) for a, b in STEPS}


if __name__ == "__main__":
    for name, value in variance_table().items():
        print(f"{name:20}{value:8.2f}")
    for step, count in steps_held().items():
        print(f"{step:36}{count} of {len(INSTANCES)}")
