"""What others' implementations say of the same inputs. Nothing of the project is used here.

Each is imported where it is used: all of them are optional.
"""

import warnings
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

tensor = partial(torch.tensor, dtype=torch.float64)


def _last(lengths) -> Tensor:
    """(B, T) True where a sequence ends."""
    return torch.arange(max(lengths)) == torch.tensor(lengths)[:, None] - 1


def _real(x: Tensor, lengths) -> Tensor:
    return x * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def _jax():
    """jax in float64, on the processor."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    import jax.numpy as jnp

    return jax, partial(jnp.asarray, dtype=jnp.float64)


@contextmanager
def _default_float64():
    """torchrl makes tensors of numbers like gamma in the default type."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


# -- torchrl --------------------------------------------------------------------------------------


def _torchrl_gae(name, lengths, rewards, values, gammas_and_lambdas) -> dict:
    from torchrl.objectives.value import functional

    values, done = tensor(values), _last(lengths)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    columns = [x[..., None] for x in (values, following, tensor(rewards), done)]
    with _default_float64():
        every = [getattr(functional, name)(*each, *columns)[0] for each in gammas_and_lambdas]
    return torch.stack([_real(x.squeeze(-1), lengths) for x in every])


def torchrl_gae(**inputs) -> dict:
    return {"advantages": _torchrl_gae("generalized_advantage_estimate", **inputs)}


def torchrl_vec_gae(gammas_and_lambdas, **inputs) -> dict:
    """It fails where gamma lambda is 0."""
    positive = [each for each in gammas_and_lambdas if each[1] > 0]
    name = "vec_generalized_advantage_estimate"
    advantages = _torchrl_gae(name, gammas_and_lambdas=positive, **inputs)
    return {"advantages of positive lambdas": advantages}


def torchrl_reward2go(lengths, rewards, gammas) -> dict:
    from torchrl.objectives.value.functional import reward2go

    columns = tensor(rewards)[..., None], _last(lengths)[..., None]
    # The columns after a row's end are an episode that the last one has to close.
    columns[1][:, -1] = True
    every = [reward2go(*columns, gamma).squeeze(-1) for gamma in gammas]
    return {"returns": torch.stack([_real(x, lengths) for x in every])}


def _torchrl_parts():
    """A policy whose logits, and a value function whose values, are those of the batch."""
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential
    from tensordict.nn import TensorDictModule as Module

    actor = ProbabilisticTensorDictSequential(
        Module(torch.nn.Identity(), in_keys=["own_logits"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"],
            out_keys=["action"],
            distribution_class=torch.distributions.Categorical,
            return_log_prob=True,
        ),
    )
    critic = Module(torch.nn.Identity(), in_keys=["own_value"], out_keys=["state_value"])
    return actor, critic


def _torchrl_batch(logits, actions, advantages):
    from tensordict import TensorDict

    leaf = tensor(logits).requires_grad_()
    fields = {"own_logits": leaf, "action": torch.tensor(actions)}
    fields["advantage"] = tensor(advantages)[..., None]
    fields["own_value"] = fields["value_target"] = torch.zeros_like(fields["advantage"])
    return leaf, TensorDict(fields, batch_size=leaf.shape[:2])


def _torchrl_loss_and_gradient(loss_module, leaf, batch) -> dict:
    loss = loss_module(batch)["loss_objective"]
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return {"loss": loss.detach().reshape(leaf.shape[:2]), "gradient": gradient}


def torchrl_a2c(logits, actions, advantages) -> dict:
    from torchrl.objectives import A2CLoss

    loss = A2CLoss(*_torchrl_parts(), reduction="none", entropy_bonus=False)
    return _torchrl_loss_and_gradient(loss, *_torchrl_batch(logits, actions, advantages))


def torchrl_ppo(logits, actions, advantages, log_ratios, clip_ranges) -> dict:
    from torchrl.objectives import ClipPPOLoss

    every = []
    for clip in clip_ranges:
        leaf, batch = _torchrl_batch(logits, actions, advantages)
        now = torch.distributions.Categorical(logits=leaf.detach()).log_prob(batch["action"])
        batch["action_log_prob"] = now - tensor(log_ratios)
        loss = ClipPPOLoss(
            *_torchrl_parts(), clip_epsilon=tuple(clip), reduction="none", entropy_bonus=False
        )
        every.append(_torchrl_loss_and_gradient(loss.double(), leaf, batch))
    return {name: torch.stack([x[name] for x in every]) for name in every[0]}


def torchrl_value_loss(values, old_values, returns, clip_range) -> dict:
    """It has no 1/2 before the square."""
    from tensordict import TensorDict
    from torchrl.objectives import ClipPPOLoss

    fields = {"own_value": values, "state_value": old_values, "value_target": returns}
    batch = TensorDict(
        {name: tensor(x)[..., None] for name, x in fields.items()}, batch_size=[4, 7]
    )
    of = partial(ClipPPOLoss, *_torchrl_parts(), loss_critic_type="l2", reduction="none")
    losses = {"plain": of(), "clipped": of(clip_value=clip_range).double()}
    # The new values take the place of the old ones in what it is given.
    return {
        name: loss.loss_critic(batch.clone())[0].squeeze(-1) / 2 for name, loss in losses.items()
    }


# -- rlax -----------------------------------------------------------------------------------------


def rlax_gae(lengths, rewards, values, gammas_and_lambdas) -> dict:
    """Row by row, without padding; the discount after the end is 0."""
    import rlax

    _, array = _jax()
    result = torch.zeros(len(gammas_and_lambdas), len(lengths), max(lengths), dtype=torch.float64)
    for i, (gamma, lam) in enumerate(gammas_and_lambdas):
        for b, n in enumerate(lengths):
            row = rlax.truncated_generalized_advantage_estimation(
                array(rewards[b][:n]),
                array([gamma] * (n - 1) + [0.0]),
                lam,
                array([*values[b][:n], 0.0]),
            )
            result[i, b, :n] = tensor(row.tolist())
    return {"advantages": result}


def rlax_discounted_returns(lengths, rewards, gammas) -> dict:
    import rlax

    _, array = _jax()
    result = torch.zeros(len(gammas), len(lengths), max(lengths), dtype=torch.float64)
    for i, gamma in enumerate(gammas):
        for b, n in enumerate(lengths):
            row = rlax.discounted_returns(array(rewards[b][:n]), array([gamma] * n), array(0.0))
            result[i, b, :n] = tensor(row.tolist())
    return {"returns": result}


def rlax_policy_gradient(logits, actions, advantages) -> dict:
    """Its loss is a mean: each token is given alone."""
    import rlax

    jax, array = _jax()

    def loss(x, action, advantage):
        one = array([1.0])
        return rlax.policy_gradient_loss(x[None], action[None], advantage[None], one)

    each = jax.vmap(jax.vmap(jax.value_and_grad(loss)))
    with warnings.catch_warnings(action="ignore"):
        values, gradients = each(array(logits), jax.numpy.asarray(actions), array(advantages))
    return {"loss": tensor(values.tolist()), "gradient": tensor(gradients.tolist())}


def rlax_ppo(logits, actions, advantages, log_ratios, clip_ranges) -> dict:
    import rlax

    jax, array = _jax()

    def loss(x, action, advantage, log_ratio):
        logprob = jax.nn.log_softmax(x)[action]
        old = jax.lax.stop_gradient(logprob) - log_ratio
        ratio = jax.numpy.exp(logprob - old)
        return rlax.clipped_surrogate_pg_loss(ratio[None], advantage[None], clip_ranges[0][0])

    each = jax.vmap(jax.vmap(jax.value_and_grad(loss)))
    values, gradients = each(
        array(logits), jax.numpy.asarray(actions), array(advantages), array(log_ratios)
    )
    return {
        "loss of one range": tensor(values.tolist()),
        "gradient of one range": tensor(gradients.tolist()),
    }


def rlax_kl(logits, others) -> dict:
    import rlax

    _, array = _jax()
    with warnings.catch_warnings(action="ignore"):
        kl = tensor(rlax.categorical_kl_divergence(array(logits), array(others)).tolist())
    return {"k1": kl, "k3": kl}


# -- others ---------------------------------------------------------------------------------------


def trl_log_probabilities(logits, actions, temperatures) -> dict:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    x, places = tensor(logits), torch.tensor(actions)
    return {
        "logprobs": torch.stack([selective_log_softmax(x / t, places) for t in temperatures]),
        "entropies": torch.stack([entropy_from_logits(x / t) for t in temperatures]),
    }


def sb3_explained_variance(lengths, returns, values) -> dict:
    """Of the real tokens, one after another."""
    from stable_baselines3.common.utils import explained_variance

    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    predicted, true = (tensor(x)[real].numpy() for x in (values, returns))
    return {"share": tensor(float(explained_variance(predicted, true)))}


def sb3_running_moments(batches) -> dict:
    import numpy as np
    from stable_baselines3.common.running_mean_std import RunningMeanStd

    running, moments = RunningMeanStd(epsilon=0.0), []
    for batch in batches:
        running.update(np.array(batch))
        moments.append((float(running.mean), float(running.var)))
    return {"moments": tensor(moments)}


def choix_opt_pairwise(pairs, scores, penalty) -> dict:
    import choix
    import numpy as np

    return {
        "loss": tensor(-choix.log_likelihood_pairwise(pairs, np.array(scores))),
        "best": tensor(choix.opt_pairwise(len(scores), pairs, alpha=penalty, tol=1e-13)),
    }


def choix_ilsr_rankings(rankings, scores) -> dict:
    import choix
    import numpy as np

    best = choix.ilsr_rankings(len(scores), rankings, alpha=0.0, max_iter=1000, tol=1e-12)
    return {
        "loss": tensor(-choix.log_likelihood_rankings(rankings, np.array(scores))),
        "best": tensor(best - best.mean()),
    }


def torchmetrics_calibration(margins, bins) -> dict:
    """It bins any probability in [0, 1]: given confidences, which lie in the upper half, twice as
    many bins cut that half as ours do. Half right is once right and once wrong, so every pair is
    given twice.
    """
    from torchmetrics.classification import BinaryCalibrationError

    x = tensor(margins)
    confidence = x.abs().sigmoid().repeat(2)
    right = torch.cat([x > 0, x >= 0]).long()
    return {"errors": torch.stack([BinaryCalibrationError(2 * n)(confidence, right) for n in bins])}


# By name of comparison and library.
THEIRS = {
    ("gae", "torchrl"): (torchrl_gae, torchrl_vec_gae),
    ("gae", "rlax"): (rlax_gae,),
    ("rewards_to_go", "torchrl"): (torchrl_reward2go,),
    ("rewards_to_go", "rlax"): (rlax_discounted_returns,),
    ("log_probabilities", "trl"): (trl_log_probabilities,),
    ("kl", "rlax"): (rlax_kl,),
    ("policy_gradient", "torchrl"): (torchrl_a2c,),
    ("policy_gradient", "rlax"): (rlax_policy_gradient,),
    ("ppo_clip", "torchrl"): (torchrl_ppo,),
    ("ppo_clip", "rlax"): (rlax_ppo,),
    ("value_errors", "torchrl"): (torchrl_value_loss,),
    ("explained_variance", "stable_baselines3"): (sb3_explained_variance,),
    ("running_moments", "stable_baselines3"): (sb3_running_moments,),
    ("bradley_terry", "choix"): (choix_opt_pairwise,),
    ("plackett_luce", "choix"): (choix_ilsr_rankings,),
    ("partial_rankings", "choix"): (choix_ilsr_rankings,),
    ("calibration", "torchmetrics"): (torchmetrics_calibration,),
}
# Distributions on PyPI, for their versions, and what they are imported as.
DISTRIBUTIONS = {
    "choix": "choix",
    "rlax": "rlax",
    "stable_baselines3": "stable-baselines3",
    "torchmetrics": "torchmetrics",
    "torchrl": "torchrl",
    "trl": "trl",
}
ORACLES = [
    (case, library, oracle) for (case, library), oracles in THEIRS.items() for oracle in oracles
]
