"""Expected gradients of the losses, over all responses, against autograd through J itself.

Correct code agrees to rounding. What is biased, and known to be, is measured at the end.
"""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import GPT2Config, GPT2ForSequenceClassification

from lightning_modules.a2c import A2C
from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    adapter_parameters,
    add_adapter,
    add_value_adapter,
)
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.masked import aggregate, masked
from lightning_modules.policy import PolicyModule
from lightning_modules.ppo import PPO
from lightning_modules.reinforce import Reinforce
from lightning_modules.rollouts.rollout import Rollout
from tests.exact.world import (
    DTYPE,
    HORIZON,
    OPTIONS,
    PROMPT,
    RESPONSES,
    STATE_OF,
    STATES,
    STOP,
    VOCABULARY,
    TableCritic,
    bound,
    exact_gradient,
    exact_values,
    flat,
    gradient,
    log_probabilities,
    objective,
    rollout_of,
    score_table,
    tiny_lm,
    visits,
)

KINDS = ("recurrent", "gpt2", "llama")
RETURNS = ("sequence", "to_go")
ALL = list(range(len(RESPONSES)))
BETA = OPTIONS["beta"]
SCORES = score_table()
TOLERANCE = 1e-12
# What is called biased is off by at least this much; the figures say by how much.
VISIBLE, NO_LIMIT = 0.01, 10.0


# -- modules, and their expected gradients ------------------------------------------------------


def reinforce(lm: nn.Module, ref: nn.Module, scores: Tensor = SCORES, **options) -> Reinforce:
    common = {name: value for name, value in OPTIONS.items() if name != "critic"}
    own = {"returns": "to_go", "baseline": "none", "importance": "none"}
    return bound(Reinforce(**common | own | options), ActorCritic(lm), ref, scores)


def a2c(model: ActorCritic, ref: nn.Module, **options) -> A2C:
    own = {"lam": 1.0, "value_updates": 1, "value_coef": 0.7, "whiten_advantages": False}
    return bound(A2C(**OPTIONS | {"critic": "head"} | own | options), model, ref, SCORES)


def ppo(model: ActorCritic, ref: nn.Module, **options) -> PPO:
    own = {"lam": 1.0, "clip_range": 0.2, "value_coef": 0.7, "whiten_advantages": False}
    return bound(PPO(**OPTIONS | {"critic": "head"} | own | options), model, ref, SCORES)


@cache
def models(kind: str) -> tuple[nn.Module, nn.Module]:
    """A policy and a reference; nothing here changes their weights."""
    return tiny_lm(kind, 0), tiny_lm(kind, 1)


@cache
def exact_ascent(kind: str) -> Tensor:
    """The gradient of J."""
    return exact_gradient(*models(kind), SCORES, BETA)


@cache
def probabilities(lm: nn.Module, temperature: float = 1.0) -> Tensor:
    return log_probabilities(lm, temperature).exp().detach()


def gradient_of(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    return flat(torch.autograd.grad(value, parameters, allow_unused=True), parameters)


def outputs(module: PolicyModule, rollout: Rollout) -> TokenOutputs:
    masks = rollout.prompt_mask, rollout.response_mask
    return module.model(rollout.sequences, *masks, module.options.temperature)


def expected(
    module: PolicyModule,
    rollout: Rollout,
    weights: Tensor,
    parameters: list[nn.Parameter] | None = None,
) -> Tensor:
    """Minus the gradient of sum_y weights(y) loss(y), where each response is a batch of its own."""
    token_losses, _ = module.token_loss(rollout, outputs(module, rollout))
    mask = rollout.response_mask
    losses = [
        aggregate(token_losses[i : i + 1], mask[i : i + 1], module._count(row))
        for i, row in enumerate(rollout.micro_batches(1))
    ]
    if parameters is None:
        parameters = list(module.model.lm.parameters())
    return -gradient_of(weights @ torch.stack(losses), parameters)


def off(estimate: Tensor, exact: Tensor) -> float:
    """The relative error of a gradient."""
    return float((estimate - exact).norm() / exact.norm())


def off_in_direction(estimate: Tensor, exact: Tensor) -> float:
    """What no learning rate makes up for: the error after the best scaling."""
    return off(estimate * (estimate @ exact) / estimate.square().sum(), exact)


# -- REINFORCE ----------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_reinforce_one_response_at_a_time(kind, returns, measured):
    lm, ref = models(kind)
    module, p = reinforce(lm, ref, returns=returns), probabilities(lm)
    mean = sum(p[i] * gradient(module, rollout_of(module, [i])) for i in ALL)
    error = off(mean, exact_ascent(kind))
    measured(f"E3 REINFORCE, returns={returns}: {kind}", error, TOLERANCE)


@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_reinforce_on_padded_rows_at_another_temperature(kind, returns, measured):
    lm, ref = models(kind)
    module = reinforce(lm, ref, returns=returns, temperature=0.7)
    logp, logref = log_probabilities(lm, 0.7), log_probabilities(ref, 0.7).detach()
    exact = (logp.exp() * (SCORES - BETA * (logp - logref))).sum()
    rollout = rollout_of(module, ALL, left_padding=3)
    error = off(
        expected(module, rollout, probabilities(lm, 0.7)),
        gradient_of(exact, list(lm.parameters())),
    )
    measured(f"E3 REINFORCE at temperature 0.7, returns={returns}: {kind}", error, TOLERANCE)


def test_the_fine_for_responses_that_were_cut_off_is_part_of_the_objective(measured):
    lm, ref = models("recurrent")
    module = reinforce(lm, ref, missing_eos_penalty=1.5)
    fined = SCORES - 1.5 * torch.tensor([y[-1] != STOP for y in RESPONSES])
    mean = expected(module, rollout_of(module, ALL), probabilities(lm))
    error = off(mean, exact_gradient(lm, ref, fined, BETA))
    measured("E3 REINFORCE with missing_eos_penalty: recurrent", error, TOLERANCE)


def test_without_beta_it_is_the_gradient_of_the_score(measured):
    lm, ref = models("recurrent")
    module = reinforce(lm, ref, beta=0.0)
    mean = expected(module, rollout_of(module, ALL), probabilities(lm))
    error = off(mean, exact_gradient(lm, ref, SCORES, 0.0))
    measured("E3 REINFORCE with beta=0: recurrent", error, TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_k1_in_the_reward_is_the_gradient_of_the_kl(kind, measured):
    lm, ref = models(kind)
    nothing = torch.zeros_like(SCORES)
    module = reinforce(lm, ref, nothing, beta=1.0)
    mean = expected(module, rollout_of(module, ALL), probabilities(lm))
    error = off(mean, exact_gradient(lm, ref, nothing, 1.0))
    measured(f"E3 k1 in the reward has the gradient of -KL: {kind}", error, TOLERANCE)


# -- baselines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_baseline_changes_no_expectation(kind, returns, measured):
    lm, ref = models(kind)
    module = reinforce(lm, ref, returns=returns)
    rollout = rollout_of(module, ALL)
    less = replace(rollout, advantages=masked(rollout.advantages - 7.0, rollout.response_mask))
    error = off(expected(module, less, probabilities(lm)), exact_ascent(kind))
    measured(f"E3 a constant baseline, returns={returns}: {kind}", error, TOLERANCE)


def mean_advantages(
    rollout: Rollout, parts: list[Rollout], rows: Tensor, shares: Tensor
) -> Rollout:
    """The rollout of all responses, each with its mean advantage over the company it may be in.

    `parts` are weighed batches that hold the responses `rows`, one after another; `shares` are the
    probabilities of the company. A loss is affine in the advantages, so that the loss of the mean
    is the mean of the losses.
    """
    advantages = torch.cat([pad(x.advantages, (0, HORIZON - x.advantages.shape[1])) for x in parts])
    mean = torch.zeros(len(rollout), HORIZON, dtype=DTYPE)
    return replace(rollout, advantages=mean.index_add(0, rows, shares[:, None] * advantages))


def in_all_pairs(module: Reinforce, rollout: Rollout, p: Tensor) -> Rollout:
    """Mean advantages over groups of two independent responses, all of them weighed at once."""
    pairs = torch.cartesian_prod(torch.tensor(ALL), torch.tensor(ALL))
    groups = module.weigh(rollout.select(pairs.flatten()))
    # A response is the first of its pair or the second.
    shares = p[pairs.flip(1)].flatten() / 2
    return mean_advantages(rollout, [groups], pairs.flatten(), shares)


@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_leave_one_out_over_all_pairs_of_responses(kind, returns, measured):
    lm, ref = models(kind)
    p = probabilities(lm)
    rollout = rollout_of(reinforce(lm, ref), ALL)
    module = reinforce(lm, ref, returns=returns, baseline="leave_one_out", samples_per_prompt=2)
    mean = expected(module, in_all_pairs(module, rollout, p), p)
    error = off(mean, exact_ascent(kind))
    measured(f"E3 leave-one-out, all pairs, returns={returns}: {kind}", error, TOLERANCE)


def test_the_mean_of_n_responses_as_a_baseline_shrinks_the_gradient_by_1_over_n(measured):
    """Each response is in its own baseline: the expectation is 1 - 1/n times the gradient of J."""
    lm, ref = models("recurrent")
    p, exact = probabilities(lm), exact_ascent("recurrent")
    module = reinforce(lm, ref, baseline="mean", prompts_per_iteration=2)
    rollout = rollout_of(module, ALL)
    claim = "E3 baseline=mean of n responses gives (1 - 1/n) of the gradient"

    alone = [module.weigh(row) for row in rollout.micro_batches(1)]
    nothing = expected(module, mean_advantages(rollout, alone, torch.tensor(ALL), p / p), p)
    measured(f"{claim}: recurrent, n = 1", nothing.norm() / exact.norm(), TOLERANCE)

    # A batch of two is the same in either order, so half of the pairs will do.
    pairs = torch.combinations(torch.tensor(ALL), 2, with_replacement=True)
    batches = [module.weigh(rollout.select(pair)) for pair in pairs]
    twice = (pairs[:, :1] == pairs[:, 1:]).expand_as(pairs)
    shares = torch.where(twice, 0.5, 1.0) * p[pairs.flip(1)]
    by_two = mean_advantages(rollout, batches, pairs.flatten(), shares.flatten())
    error = off(expected(module, by_two, p), exact / 2)
    measured(f"{claim}: recurrent, n = 2", error, TOLERANCE)


# -- critics ------------------------------------------------------------------------------------


def scorer() -> GPT2ForSequenceClassification:
    """A critic of its own, random."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        bos_token_id=STOP,
        eos_token_id=STOP,
        n_positions=16,
        n_embd=8,
        n_layer=1,
        n_head=2,
        num_labels=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = GPT2ForSequenceClassification(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.6)
    return model.to(DTYPE).eval()


def random_head(lm: nn.Module) -> nn.Linear:
    head = new_value_head(lm).to(DTYPE)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in head.parameters():
            nn.init.normal_(parameter)
    return head


def with_critic(lm: nn.Module, critic: str) -> ActorCritic:
    """The policy with a random value function."""
    if critic == "copy":
        return ActorCritic(lm, critic=ScalarModel(scorer()))
    return ActorCritic(lm, random_head(lm))


def plain_values(backbone: nn.Module, head: nn.Linear) -> Tensor:
    """V of the 40 states, state by state, with gradients."""
    values = []
    for state in STATES:
        ids = torch.tensor([PROMPT + state])
        hidden = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        values.append(head(hidden[0, -1]))
    return torch.cat(values)


def exact_descent(
    logp: Tensor,
    logref: Tensor,
    values: Tensor,
    value_coef: float,
    parameters: list[nn.Parameter],
) -> Tensor:
    """The gradient of J - value_coef E[sum_t (V(s_t) - V^pi(s_t))^2 / 2], V being `values` (40,).

    The squared error from returns has the same gradient: it is larger by a constant.
    """
    value = (logp.exp() * (SCORES - BETA * (logp - logref))).sum()
    fixed = logp.detach()
    errors = 0.5 * (values - exact_values(fixed, logref, SCORES, BETA)).square()
    return gradient_of(value - value_coef * (visits(fixed) @ errors), parameters)


@pytest.mark.parametrize("critic", ["head", "copy"])
@pytest.mark.parametrize("kind", KINDS)
def test_lam_1_with_any_value_function(kind, critic, measured):
    """Of policy and value function together; PPO where it begins, at the policy that sampled."""
    lm, ref = models(kind)
    model = with_critic(lm, critic)
    if critic == "head":
        values = plain_values(lm.base_model, model.value_head)
    else:
        values = plain_values(model.critic.model.transformer, model.critic.model.score)
    parameters = list(model.parameters())
    logp, logref = log_probabilities(lm), log_probabilities(ref).detach()
    exact = exact_descent(logp, logref, values, 0.7, parameters)
    for name, module in {
        "E3 A2C": a2c(model, ref, critic=critic),
        "E4 PPO": ppo(model, ref, critic=critic),
        "E4 PPO with dual clip and clipped values": ppo(
            model, ref, critic=critic, dual_clip=1.5, value_clip_range=0.1
        ),
    }.items():
        rollout = rollout_of(module, ALL, left_padding=1)
        error = off(expected(module, rollout, logp.exp().detach(), parameters), exact)
        claim = f"{name} with lam=1 and a random V, policy and value gradient"
        measured(f"{claim}: {kind}, critic={critic}", error, TOLERANCE)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_any_lam_with_the_exact_value_function(kind, lam, measured):
    lm, ref = models(kind)
    logp, logref = log_probabilities(lm).detach(), log_probabilities(ref).detach()
    critic = TableCritic(exact_values(logp, logref, SCORES, BETA))
    module = a2c(ActorCritic(lm, critic=critic), ref, critic="copy", lam=lam)
    mean = expected(module, rollout_of(module, ALL, left_padding=1), logp.exp())
    error = off(mean, exact_ascent(kind))
    measured(f"E3 A2C with lam={lam} and the exact V: {kind}", error, TOLERANCE)


@pytest.fixture
def adapted():
    """A llama with a LoRA policy and a LoRA value function, neither of them zero; and its base."""
    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    lm = add_adapter(frozen(tiny_lm("llama")), lora, TaskType.CAUSAL_LM, seed=0)
    add_value_adapter(lm, lora, seed=1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        for name in ("default", VALUE_ADAPTER):
            for parameter in adapter_parameters(lm, name):
                parameter.normal_(std=0.4)
    return lm.eval(), tiny_lm("llama")


def test_reinforce_on_adapters_whose_base_is_the_reference(adapted, measured):
    lm, base = adapted
    parameters = adapter_parameters(lm, "default")
    module = reinforce(lm, base)
    module.collector.reference = Reference(lm, shares_policy=True)
    rollout = rollout_of(module, ALL, left_padding=2)
    mean = expected(module, rollout, probabilities(lm), parameters)
    error = off(mean, gradient_of(objective(lm, base, SCORES, BETA), parameters))
    measured("E3 REINFORCE on LoRA adapters, reference = adapters off: llama", error, TOLERANCE)


def test_a2c_on_adapters_with_the_value_function_on_another_adapter(adapted, measured):
    lm, base = adapted
    head = random_head(lm)
    both = [adapter_parameters(lm, name) for name in ("default", VALUE_ADAPTER)]
    parameters = [*both[0], *both[1], *head.parameters()]

    logp, logref = log_probabilities(lm), log_probabilities(base).detach()
    lm.set_adapter(VALUE_ADAPTER)
    values = plain_values(lm.get_base_model().model, head)
    lm.set_adapter("default")
    for parameter in parameters:
        parameter.requires_grad_(True)  # PEFT freezes what it switches off
    exact = exact_descent(logp, logref, values, 0.7, parameters)

    module = a2c(ActorCritic(lm, head, value_adapter=VALUE_ADAPTER), base, critic="adapter")
    module.collector.reference = Reference(lm, shares_policy=True)
    rollout = rollout_of(module, ALL, left_padding=2)
    error = off(expected(module, rollout, logp.exp().detach(), parameters), exact)
    claim = "E3 A2C on LoRA adapters with lam=1, policy and value gradient"
    measured(f"{claim}: llama, critic=adapter", error, TOLERANCE)


# -- PPO where it begins ------------------------------------------------------------------------


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo_begins_as_a2c(kind, lam, whiten, measured):
    """At theta_old: the same policy gradient for the same advantages, and nothing clipped."""
    lm, ref = models(kind)
    model = with_critic(lm, "copy")
    common = {"critic": "copy", "lam": lam, "whiten_advantages": whiten}
    plain = a2c(model, ref, **common)
    # Any batch will do: here, every response once.
    exact = gradient(plain, rollout_of(plain, ALL))
    where = f"{kind}, lam={lam}, whitened={whiten}"
    for name, extra in {
        "PPO": {},
        "PPO with dual clip and clipped values": {"dual_clip": 1.5, "value_clip_range": 0.1},
    }.items():
        clipped = ppo(model, ref, **common, **extra)
        rollout = rollout_of(clipped, ALL)
        error = off(gradient(clipped, rollout), exact)
        measured(f"E4 {name} begins with the gradient of A2C: {where}", error, TOLERANCE)
        new = outputs(clipped, rollout)
        moved = (new.logprobs.detach() - rollout.old_logprobs).exp() - 1
        measured(f"E4 {name} begins with ratio 1: {where}", moved.abs().max(), TOLERANCE)
        _, stats = clipped.token_loss(rollout, new)
        touched = stats["clip_fraction"].sum() + stats["ratio_outside"].sum()
        measured(f"E4 {name} begins with nothing clipped: {where}", touched, 0)


# -- off-policy ---------------------------------------------------------------------------------


def moved_on(module: Reinforce, lm: nn.Module, rollout: Rollout) -> Tensor:
    """The expected gradient at `lm` of a rollout of the module's policy."""
    p_old = probabilities(module.model.lm)
    module.model = ActorCritic(lm)
    return expected(module, rollout, p_old)


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_sequence_weights_on_responses_of_another_policy(kind, returns, baseline, measured):
    (lm, ref), old = models(kind), tiny_lm(kind, 5)
    options = {"returns": returns, "importance": "sequence"}
    rollout = rollout_of(reinforce(old, ref, **options), ALL)
    module = reinforce(old, ref, **options, baseline=baseline, samples_per_prompt=2)
    if baseline == "leave_one_out":
        rollout = in_all_pairs(module, rollout, probabilities(old))
    error = off(moved_on(module, lm, rollout), exact_ascent(kind))
    claim = "E3 importance=sequence on responses of another policy"
    measured(f"{claim}: {kind}, returns={returns}, baseline={baseline}", error, TOLERANCE)


def nearby(lm: nn.Module) -> nn.Module:
    """A policy some updates away."""
    near = deepcopy(lm)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(6)
        for parameter in near.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return near


@pytest.mark.parametrize("importance", ["token", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_anything_less_than_sequence_weights_is_biased_off_policy(kind, importance, measured):
    lm, ref = models(kind)
    module = reinforce(nearby(lm), ref, importance=importance)
    mean = moved_on(module, lm, rollout_of(module, ALL))
    error = off(mean, exact_ascent(kind))
    claim = f"E3 biased: importance={importance} on responses of a policy nearby"
    assert error > VISIBLE
    measured(f"{claim}: {kind}", error, NO_LIMIT)


# -- biased, and known to be --------------------------------------------------------------------


def discounted(logp: Tensor, logref: Tensor, gamma: float) -> Tensor:
    """E[sum_t gamma^t r_t] with r_t = -beta (log pi - log ref) and the score at the last token."""
    lengths = torch.tensor([[len(y)] for y in RESPONSES])
    whole = (logp - logref)[:, None]
    ratio_at = visits(logp).log() - visits(logref).log()
    times = torch.arange(HORIZON, dtype=DTYPE)
    over = times >= lengths
    ratio = torch.where(over, whole, pad(ratio_at, (0, 1))[STATE_OF])
    of_token = torch.cat([ratio, whole], dim=1).diff(dim=1)
    rewards = -BETA * of_token + SCORES[:, None] * (times == lengths - 1)
    return (logp.exp() * (rewards * gamma**times).sum(-1)).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_discount_is_exact_for_whole_returns_only(kind, measured):
    lm, ref = models(kind)
    parameters = list(lm.parameters())
    logp, logref = log_probabilities(lm), log_probabilities(ref).detach()
    exact = gradient_of(discounted(logp, logref, 0.9), parameters)
    whole = reinforce(lm, ref, returns="sequence", gamma=0.9)
    error = off(expected(whole, rollout_of(whole, ALL), probabilities(lm)), exact)
    measured(f"E3 gamma=0.9, returns=sequence, of discounted J: {kind}", error, TOLERANCE)

    usual = reinforce(lm, ref, gamma=0.9)
    mean = expected(usual, rollout_of(usual, ALL), probabilities(lm))
    undiscounted = exact_ascent(kind)
    for name, truth in (("discounted J", exact), ("J", undiscounted)):
        error = off_in_direction(mean, truth)
        assert error > VISIBLE
        measured(f"E3 biased: gamma=0.9, returns=to_go, of {name}: {kind}", error, NO_LIMIT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_discount_leaves_a_critic_a_mere_baseline(kind, measured):
    """With lam=1, A2C expects what REINFORCE does from the discounted rewards-to-go."""
    lm, ref = models(kind)
    plain = reinforce(lm, ref, gamma=0.9)
    module = a2c(with_critic(lm, "copy"), ref, critic="copy", gamma=0.9)
    means = [expected(x, rollout_of(x, ALL), probabilities(lm)) for x in (module, plain)]
    claim = "E3 gamma=0.9: A2C with lam=1 and a random V expects what REINFORCE does"
    measured(f"{claim}: {kind}", off(*means), TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_over_tokens_is_biased(kind, measured):
    lm, ref = models(kind)
    module = reinforce(lm, ref, normalise="tokens")
    mean = expected(module, rollout_of(module, ALL), probabilities(lm))
    error = off_in_direction(mean, exact_ascent(kind))
    assert error > VISIBLE
    measured(f"E3 biased: normalise=tokens, a batch of one response: {kind}", error, NO_LIMIT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_and_the_own_kl_of_a_token_are_not_its_return(kind, measured):
    lm, ref = models(kind)
    module = reinforce(lm, ref)
    rollout = rollout_of(module, ALL)
    own = rollout.scores[:, None] - BETA * k1(rollout.old_logprobs, rollout.ref_logprobs)
    rollout = replace(rollout, advantages=masked(own, rollout.response_mask))
    mean = expected(module, rollout, probabilities(lm))
    error = off(mean, exact_ascent(kind))
    assert error > VISIBLE
    measured(f"E3 biased: the score and the own KL of each token: {kind}", error, NO_LIMIT)


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_of_the_kl_are_no_losses(kind, measured):
    lm, ref = models(kind)
    nothing = torch.zeros_like(SCORES)
    exact = exact_gradient(lm, ref, nothing, 1.0)
    module = reinforce(lm, ref, nothing, beta=1.0)
    rollout = rollout_of(module, ALL)
    p, mask = probabilities(lm)[:, None], rollout.response_mask

    def as_loss(estimator) -> Tensor:
        new = outputs(module, rollout).logprobs
        loss = aggregate(p * estimator(new, rollout.ref_logprobs), mask, 1.0)
        return -gradient_of(loss, list(lm.parameters()))

    vanishing = as_loss(k1).norm() / exact.norm()
    measured(f"E3 k1 as a loss has no gradient at all: {kind}", vanishing, TOLERANCE)
    in_reward = replace(rollout, rewards=-k3(rollout.old_logprobs, rollout.ref_logprobs))
    for name, mean in (
        ("k3 as a loss", as_loss(k3)),
        ("k3 in the reward", expected(module, module.weigh(in_reward), p.squeeze(1))),
    ):
        error = off(mean, exact)
        assert error > VISIBLE
        measured(f"E3 biased: {name}: {kind}", error, NO_LIMIT)
