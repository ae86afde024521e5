"""Sampled training through the real Trainer, against optima and drifts that are known exactly."""

from functools import partial
from math import log

import pytest
import torch

from tests.exact.trainer import (
    a2c,
    distribution,
    divergence,
    expected,
    fit,
    learner,
    pair_scores,
    ppo,
    reinforce,
    rloo,
)
from tests.exact.world import log_probabilities, optimum, tiny_lm
from tests.tolerances import WHITENING, of_model

# -- E6: every algorithm reaches the optimum ------------------------------------------------------

BETAS = (0.8, 0.5)


@pytest.mark.parametrize(
    ("name", "kind", "algorithm"),
    [
        ("REINFORCE", "gpt2", partial(reinforce, iterations=80)),
        ("RLOO", "llama", partial(rloo, iterations=50)),
        ("A2C", "gpt2", partial(a2c, iterations=60)),
        ("PPO", "llama", partial(ppo, iterations=50)),
    ],
)
def test_sampled_training_reaches_the_optimum_of_its_own_beta(name, kind, algorithm, measured):
    ref = learner(kind)
    scores = pair_scores(1.5, seed=0)
    # The reference's mean score is then 0, and beta log Z all that there is to gain over it.
    scores = scores - expected(distribution(ref), scores)
    optima = {beta: optimum(ref, scores, beta) for beta in BETAS}
    for beta, other in (BETAS, BETAS[::-1]):
        logp = distribution(fit(algorithm(beta=beta), ref, scores))
        gap = divergence(logp, optima[beta][0])
        reached = expected(logp, scores) - beta * divergence(logp, distribution(ref))
        best = float(optima[beta][1])
        measured(f"E6 {name}, beta {beta}: KL(pi, pi*) in nats", gap, 0.05)
        measured(f"E6 {name}, beta {beta}: J as share below beta log Z", 1 - reached / best, 0.02)
        away = divergence(logp, optima[other][0])
        measured(
            f"E6 {name}, beta {beta}: KL to this pi* over KL to that of beta {other}",
            gap / away,
            0.25,
        )


# -- E13: nothing to learn ------------------------------------------------------------------------

FLAT = torch.full((121,), 0.75, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("mean baseline", partial(reinforce, beta=0.0)),
        ("mean baseline, beta 0.3", partial(reinforce, beta=0.3)),
        ("leave-one-out", partial(rloo, beta=0.0)),
        ("leave-one-out, beta 0.3", partial(rloo, beta=0.3)),
        ("PPO, whitened", partial(ppo, beta=0.0, lam=1.0, value_coef=0.0)),
        ("A2C, whitened", partial(a2c, beta=0.0, whiten_advantages=True, iterations=1)),
    ],
)
def test_equal_scores_give_no_gradient_at_all(name, algorithm, measured):
    """Their mean taken off, nothing is left; at the reference neither is there a KL penalty.

    But rounding, where an update's batches have other shapes than the rollout. Adam would make
    steps of full length of it, so steps are plain; whitening multiplies it by at most 1e4.
    """
    ref = tiny_lm("gpt2")
    plain = {"iterations": 3, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    trained = fit(algorithm(**plain | algorithm.keywords), ref, FLAT)
    moved = (flat_weights(trained) - flat_weights(ref)).abs().max()
    tolerance = WHITENING * of_model(ref)
    measured(f"E13 constant score, {name}: largest change of a weight", moved, tolerance)


STEPS, RESPONSES_A_STEP, LEARNING_RATE = 40, 256, 0.002
DOUBT = 1e-4


class Noise:
    """How far SGD drifts from the reference by the noise of sampling alone, scores being equal.

    Near the reference J falls by beta/2 d'Fd at a distance d, F the Fisher information, and without
    a baseline the noise of a step's gradient has the covariance score^2 F / B. So along an
    eigenvector of F, of eigenvalue f, the variance of d follows
    v <- (1 - lr beta f)^2 v + lr^2 score^2 f / B, and KL(pi, ref) = 1/2 sum f v chi^2.
    """

    def __init__(self, ref, beta: float, score: float):
        parameters = list(ref.parameters())
        logp = log_probabilities(ref)
        each = torch.eye(len(logp)).to(logp)
        rows = torch.autograd.grad(logp, parameters, each, is_grads_batched=True)
        rows = torch.cat([x.flatten(1) for x in rows], dim=1)
        _, roots, directions = torch.linalg.svd(
            rows * logp.detach().exp().sqrt()[:, None], full_matrices=False
        )
        real = roots > 1e-2 * roots[0]
        self.f, self.directions = roots[real] ** 2, directions[real]
        self.v = torch.zeros_like(self.f)
        for _ in range(STEPS):
            kept = (1 - LEARNING_RATE * beta * self.f) ** 2
            self.v = kept * self.v + LEARNING_RATE**2 * score**2 * self.f / RESPONSES_A_STEP

    def distance(self, ref, lm) -> float:
        """Squared, every direction in units of its own noise, as a share of the bound."""
        moved = flat_weights(lm) - flat_weights(ref)
        squares = (self.directions @ moved).square() / self.v
        return float(squares.sum() / tail(torch.ones_like(squares)))

    def kl_bound(self) -> float:
        return float(tail(self.f * self.v / 2))


def tail(weights):
    """What sum w chi^2 exceeds with a probability of at most DOUBT (Laurent & Massart 2000)."""
    x = -log(DOUBT)
    return weights.sum() + 2 * (weights.square().sum() * x).sqrt() + 2 * weights.max() * x


def flat_weights(lm):
    return torch.cat([p.detach().flatten() for p in lm.parameters()])


def drifted(ref, algorithm, **options):
    """The reference after STEPS steps of SGD with equal scores."""
    module = algorithm(
        iterations=STEPS,
        prompts_per_iteration=RESPONSES_A_STEP,
        optimizer=partial(torch.optim.SGD, lr=LEARNING_RATE),
        lr_decay="none",
        max_grad_norm=None,
        **options,
    )
    return fit(module, ref, FLAT)


without_baseline = partial(reinforce, baseline="none")


@pytest.mark.parametrize(
    ("name", "algorithm", "beta"),
    [
        ("REINFORCE without baseline", without_baseline, 0.3),
        ("REINFORCE without baseline", without_baseline, 0.0),
        ("A2C", a2c, 0.3),  # its values lie between 0 and the score, so its noise is no more
    ],
)
def test_equal_scores_move_a_policy_no_farther_than_noise_does(name, algorithm, beta, measured):
    """Every response is made likelier by as much, which has no direction."""
    ref = tiny_lm("llama")
    noise = Noise(ref, beta, float(FLAT[0]))
    lm = drifted(ref, algorithm, beta=beta)
    kl = divergence(distribution(lm), distribution(ref))
    claim = f"E13 constant score, {name}, beta {beta}:"
    measured(f"{claim} squared drift, as share of the bound of noise", noise.distance(ref, lm), 1.0)
    measured(f"{claim} KL to the reference", kl, noise.kl_bound())
    assert kl > 0


def test_the_bound_of_noise_is_tight_enough_to_see_a_discount():
    """With gamma < 1 equal scores are worth more the sooner a response ends: there is a drift."""
    ref = tiny_lm("llama")
    noise = Noise(ref, 0.3, float(FLAT[0]))
    assert noise.distance(ref, drifted(ref, without_baseline, beta=0.3, gamma=0.8)) > 2
