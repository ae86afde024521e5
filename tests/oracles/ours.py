"""What the project says: each function takes the inputs of a comparison and gives named numbers."""

from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.metrics.rollout_statistics import explained_variance as share_explained
from lightning_modules.objectives import advantages, divergences, losses, preference
from lightning_modules.objectives.masked import masked
from lightning_modules.rewards.shaping import ScoreShaping
from lightning_modules.rollouts.rollout import Rollout

tensor = partial(torch.tensor, dtype=torch.float64)


def mask_of(lengths) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def gae(lengths, rewards, values, gammas_and_lambdas) -> dict:
    rewards, values, mask = tensor(rewards), tensor(values), mask_of(lengths)
    every = [advantages.gae(rewards, values, mask, *each) for each in gammas_and_lambdas]
    positive = [x for x, (_, lam) in zip(every, gammas_and_lambdas, strict=True) if lam > 0]
    return {
        "advantages": torch.stack(every),
        "advantages of positive lambdas": torch.stack(positive),
    }


def rewards_to_go(lengths, rewards, gammas) -> dict:
    every = [advantages.rewards_to_go(tensor(rewards), mask_of(lengths), g) for g in gammas]
    return {"returns": torch.stack(every)}


def spoken(logits: Tensor, actions, temperature: float = 1.0):
    """`response_outputs` of a model with these logits (B, T, V), after a prompt of one token."""

    def lm(logits_to_keep, **_):
        return SimpleNamespace(logits=logits[:, logits_to_keep])

    actions = torch.tensor(actions)
    prompt = torch.zeros(len(actions), 1, dtype=torch.long)
    everything = torch.ones_like(actions).bool()
    outputs, _ = response_outputs(
        lm, torch.cat([prompt, actions], 1), prompt == 0, everything, temperature, entropy=True
    )
    return outputs


def log_probabilities(logits, actions, temperatures) -> dict:
    every = [spoken(tensor(logits), actions, t) for t in temperatures]
    return {
        "logprobs": torch.stack([x.logprobs for x in every]),
        "entropies": torch.stack([x.entropy for x in every]),
    }


def kl(logits, others) -> dict:
    """The expectations of both estimators."""
    p, q = tensor(logits).log_softmax(-1), tensor(others).log_softmax(-1)
    return {
        name: (p.exp() * estimator(p, q)).sum(-1)
        for name, estimator in (("k1", divergences.k1), ("k3", divergences.k3))
    }


def _loss_and_gradient(logits, actions, loss_of) -> dict:
    leaf = tensor(logits).requires_grad_()
    loss = loss_of(spoken(leaf, actions).logprobs)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return {"loss": loss.detach(), "gradient": gradient}


def policy_gradient(logits, actions, advantages) -> dict:
    weights = tensor(advantages)
    return _loss_and_gradient(
        logits, actions, lambda logprobs: losses.policy_gradient(logprobs, weights)[0]
    )


def ppo_clip(logits, actions, advantages, log_ratios, clip_ranges) -> dict:
    old = spoken(tensor(logits), actions).logprobs - tensor(log_ratios)
    every = [
        _loss_and_gradient(
            logits,
            actions,
            lambda logprobs, clip=clip: losses.ppo_clip(logprobs, old, tensor(advantages), clip)[0],
        )
        for clip in clip_ranges
    ]
    stacked = {name: torch.stack([x[name] for x in every]) for name in every[0]}
    # An oracle with one number for both sides is asked for the first pair.
    return stacked | {f"{name} of one range": x[0] for name, x in stacked.items()}


def value_errors(values, old_values, returns, clip_range) -> dict:
    values, old_values, returns = map(tensor, (values, old_values, returns))
    return {
        "plain": losses.value_error(values, returns),
        "clipped": losses.clipped_value_error(values, old_values, returns, clip_range),
    }


def explained_variance(lengths, returns, values) -> dict:
    mask = mask_of(lengths)
    returns, values = masked(tensor(returns), mask), masked(tensor(values), mask)
    nothing = torch.zeros_like(returns)
    rollout = Rollout(
        prompt_mask=mask,
        sequences=nothing,
        response_mask=mask,
        stopped=mask.any(-1),
        old_logprobs=nothing,
        entropy=nothing,
        ref_logprobs=None,
        values=values,
        scores=returns[:, 0],
        returns=returns,
    )
    return {"share": tensor(share_explained(rollout, 0.0, lambda x: x))}


def running_moments(batches) -> dict:
    """Mean and variance of all scores so far, after each batch."""
    shaping = ScoreShaping(normalise=True, clip=None, missing_eos_penalty=0.0)
    moments = []
    for batch in batches:
        shaping(tensor(batch), torch.ones(len(batch)).bool(), lambda x: x)
        count, mean, squares = shaping.state()
        moments.append((mean, squares / count))
    return {"moments": tensor(moments)}


def _minimiser(loss, count: int) -> Tensor:
    """Newton's method from 0; the step has no part along equal shifts, which change nothing."""
    scores = torch.zeros(count, dtype=torch.float64)
    for _ in range(30):
        gradient = torch.autograd.functional.jacobian(loss, scores)
        hessian = torch.autograd.functional.hessian(loss, scores)
        scores = scores - torch.linalg.pinv(hessian, hermitian=True) @ gradient
    return scores


def bradley_terry(pairs, scores, penalty) -> dict:
    winners, losers = torch.tensor(pairs).unbind(-1)

    def loss(x):
        return preference.bradley_terry(x[winners], x[losers]).sum()

    return {
        "loss": loss(tensor(scores)),
        "best": _minimiser(lambda x: loss(x) + penalty * x.square().sum(), len(scores)),
    }


def plackett_luce(rankings, scores) -> dict:
    order = torch.tensor(rankings)

    def loss(x):
        return preference.plackett_luce(x[order]).sum()

    return {"loss": loss(tensor(scores)), "best": _minimiser(loss, len(scores))}


def partial_rankings(rankings, scores) -> dict:
    """As the batches of a reward model have them: padded, each with one order that is open."""
    longest = max(map(len, rankings))
    order = torch.tensor([r + [-1] * (longest - len(r)) for r in rankings])[:, None]

    def loss(x):
        return preference.plackett_luce_with_ties(x[order.clamp(min=0)], order >= 0).sum()

    return {"loss": loss(tensor(scores)), "best": _minimiser(loss, len(scores))}


def calibration(margins, bins) -> dict:
    errors = [preference.expected_calibration_error(tensor(margins), n) for n in bins]
    return {"errors": torch.stack(errors)}


OURS = {
    f.__name__: f
    for f in (
        gae,
        rewards_to_go,
        log_probabilities,
        kl,
        policy_gradient,
        ppo_clip,
        value_errors,
        explained_variance,
        running_moments,
        bradley_terry,
        plackett_luce,
        partial_rankings,
        calibration,
    )
}
