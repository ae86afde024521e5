"""Over-optimisation in the world of 121 responses: what happens to gold when a proxy is maximised.

The proxy is gold and an error: it likes to hear the token 0 again after the token 0, which gold
does not. For every beta the optimum pi_beta = ref exp(proxy / beta) / Z is known, so is its gold,
and where trained policies end can be held against it.
"""

from functools import cache, partial
from itertools import pairwise
from math import log

import torch
from torch import Tensor

from tests.exact.trainer import (
    Watch,
    distribution,
    divergence,
    expected,
    fit,
    learner,
    pair_scores,
    ppo,
)
from tests.exact.world import RESPONSES

GOLD = pair_scores(1.0, seed=29)
ERROR = torch.tensor(
    [1.125 * sum(pair == (0, 0) for pair in pairwise(y)) for y in RESPONSES]
).double()
PROXY = GOLD + ERROR
BETAS = (2.0, 0.7, 0.3)

Point = dict[str, float]


@cache
def reference():
    """The policy from which all training starts, and its distribution."""
    ref = learner("llama")
    return ref, distribution(ref)


def seen(logp: Tensor) -> Point:
    """What can be known of a policy: KL to the reference, gold and proxy, all exact."""
    kl = divergence(logp, reference()[1])
    return {"kl": kl, "gold": expected(logp, GOLD), "proxy": expected(logp, PROXY)}


def best(beta: float) -> Tensor:
    """log pi_beta of the responses."""
    return (reference()[1] + PROXY / beta).log_softmax(0)


def curve(highest: float = 20.0, lowest: float = 0.02, count: int = 60) -> list[Point]:
    """{beta, kl, gold, proxy} of pi_beta, from the highest beta to the lowest."""
    betas = torch.linspace(log(highest), log(lowest), count).exp().tolist()
    return [{"beta": beta} | seen(best(beta)) for beta in betas]


@cache
def _run(beta: float) -> list[Point]:
    # Without a penalty all is over so soon that it takes small steps to be watched.
    lr, minibatches, iterations = (5e-3, 4, 50) if beta > 0 else (1e-3, 2, 40)
    watch = Watch(lambda lm: seen(distribution(lm)), every=2)
    module = ppo(
        beta=beta,
        iterations=iterations,
        minibatches=minibatches,
        optimizer=partial(torch.optim.Adam, lr=lr),
    )
    fit(module, reference()[0], PROXY, [watch])
    return [{"iteration": iteration} | point for iteration, point in watch.seen]


def training_run(beta: float) -> list[Point]:
    """{iteration, kl, gold, proxy} of a policy that PPO trains on the proxy."""
    return list(_run(beta))


def trained_points() -> list[Point]:
    """{beta, kl, gold, proxy} of trained policies at the end, for BETAS."""
    return [
        {"beta": beta} | {k: v for k, v in _run(beta)[-1].items() if k != "iteration"}
        for beta in BETAS
    ]
