"""Reward model and critic as adapters on the policy's weights are what they are with their own."""

import pytest
import torch
from peft import LoraConfig, TaskType

from harness.pipeline.model_folder import export
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    adapter_parameters,
    add_adapter,
    merged,
)
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.one_base import BASE, base_digest, critic_on, reward_on
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import REWARD_CONFIG, AdapterScalar, ScalarModel
from lightning_modules.models.scorers import load_scorer, new_scorer
from tests.exact.world import norms_in_float64
from tests.tolerances import of_model

LORA = LoraConfig(r=4, target_modules="all-linear")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]])
SCALE = {"ensemble": 2, "score_mean": [0.3, -0.2], "score_std": [1.5, 0.7]}


def shake(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def exact(model):
    """The model in float64, whatever it computes."""
    norms_in_float64(model)
    return model.double()


@pytest.fixture
def trained(lm, encoder, tmp_path):
    """trained(config) saves a language model and a reward model of two heads that was fitted on it
    with LoRA; returns the latter.
    """
    lm.save_pretrained(tmp_path / "lm")

    def save(lora=LORA, **about):
        base = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=1, heads=2)
        model = add_adapter(base, lora, TaskType.SEQ_CLS, seed=2).eval()
        shake((p for p in model.parameters() if p.requires_grad), seed=3)
        digest = {BASE: base_digest(model)}
        model.get_base_model().config.update({REWARD_CONFIG: SCALE | digest | about})
        export(model, encoder, tmp_path / "rm")
        return model

    return save


@pytest.fixture
def policy(lm, tmp_path, trained):
    """A policy whose adapter is far from 0."""
    adapted = add_adapter(load_causal_lm(tmp_path / "lm"), LORA, TaskType.CAUSAL_LM, seed=4)
    shake(adapter_parameters(adapted, "default"), seed=5)
    return adapted.eval()


def shared(policy, tmp_path) -> AdapterScalar | None:
    found = reward_on(policy, tmp_path / "rm" / "model", normalised=True)
    return found and frozen(found)


@torch.no_grad()
def test_scores_are_those_of_a_reward_model_with_weights_of_its_own(policy, trained, tmp_path):
    own = ScalarModel(trained())
    alone = ScalarModel(load_scorer(tmp_path / "rm" / "model"))
    reward = shared(policy, tmp_path)
    expected, tolerance = alone.heads(IDS, MASK), of_model(alone.model)
    torch.testing.assert_close(reward.heads(IDS, MASK), expected, rtol=0, atol=tolerance)
    # To the bit where nothing is merged.
    assert torch.equal(reward.heads(IDS, MASK), own.heads(IDS, MASK))
    # And to rounding in twice as many digits where it is.
    exact(policy), reward.double()
    merged_exactly = ScalarModel(merged(exact(own.model))).double()
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(reward.heads(IDS, MASK), merged_exactly.heads(IDS, MASK), **close)


@torch.no_grad()
def test_policy_and_reference_say_the_same_with_a_reward_model_beside_them(
    policy, trained, tmp_path
):
    masks = MASK[:, :3].bool(), MASK[:, 3:].bool()
    before = ActorCritic(policy)(IDS, *masks, 1.0).logprobs
    of_reference = Reference(policy, shares_policy=True).logprobs(IDS, *masks, 1.0)
    names = [n for n, p in policy.named_parameters() if p.requires_grad]
    trained()
    reward = shared(policy, tmp_path)
    critic = critic_on(policy, LORA, 6, reward)
    model = ActorCritic(policy, critic=critic, value_adapter=VALUE_ADAPTER)
    reward.heads(IDS, MASK), model.values(IDS, *masks)
    assert torch.equal(model(IDS, *masks, 1.0).logprobs, before)
    assert torch.equal(
        Reference(policy, shares_policy=True).logprobs(IDS, *masks, 1.0), of_reference
    )
    # What is trained: the policy's adapter, the value function's, its head; nothing of the reward.
    now = {n for n, p in model.named_parameters() if p.requires_grad}
    of_values = {n for n in now if f".{VALUE_ADAPTER}." in n} | {"critic.own_head.weight"}
    assert now == {f"lm.{n}" for n in names} | of_values
    assert {id(p) for p in model.value_parameters()} == {
        id(p) for n, p in model.named_parameters() if n in of_values
    }


def test_a_critic_has_the_values_and_gradients_of_one_with_weights_of_its_own(
    policy, trained, tmp_path
):
    """One step of training apart, in float64: the reward model merged, with a new adapter on it."""
    own = exact(trained())
    alone = ScalarModel(add_adapter(merged(own), LORA, TaskType.SEQ_CLS, seed=6).eval()).double()
    critic = critic_on(policy, LORA, 6, shared(policy, tmp_path)).double()
    exact(policy)
    ours = ActorCritic(policy, critic=critic, value_adapter=VALUE_ADAPTER)
    masks = MASK[:, :3].bool(), MASK[:, 3:].bool()
    theirs = ActorCritic(policy, critic=alone)
    ours_by_name, theirs_by_name = by_name(policy, critic.head), by_name(alone.model)
    assert ours_by_name.keys() == theirs_by_name.keys()
    for _ in range(2):  # the new adapters begin at 0, where half of the gradients are
        values, expected = (model.values(IDS, *masks) for model in (ours, theirs))
        torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
        values.square().sum().backward()
        expected.square().sum().backward()
        largest = max(float(p.grad.abs().max()) for p in theirs_by_name.values())
        for name, parameter in ours_by_name.items():
            other = theirs_by_name[name]
            assert (parameter.grad - other.grad).abs().max() <= 1e-12 * largest, name
            for moved in (parameter, other):
                moved.data -= 0.1 / largest * moved.grad
                moved.grad = None


def by_name(model, head=None):
    """A value function's trained parameters, those of its adapter by their places."""
    named = {
        name.replace(f".{VALUE_ADAPTER}.", ".default."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (head is None or f".{VALUE_ADAPTER}." in name)
    }
    of_head = [name for name in named if ".score." in name]
    return named | {"head": head.weight if head else named.pop(*of_head)}


def test_weights_that_are_not_the_same_bytes_are_not_shared(policy, trained, tmp_path):
    trained()
    assert shared(policy, tmp_path) is not None
    with torch.no_grad():
        next(p for n, p in policy.named_parameters() if "norm" in n or "ln_" in n)[0] += 1e-6
    assert shared(policy, tmp_path) is None


def test_a_reward_model_that_is_more_than_an_adapter_has_weights_of_its_own(
    policy, trained, tmp_path
):
    embeddings = "embed_tokens" if policy.config.model_type == "llama" else "wte"
    trained(LoraConfig(r=4, target_modules="all-linear", modules_to_save=[embeddings]))
    assert shared(policy, tmp_path) is None
    trained(**{BASE: None})  # an earlier version's does not say what it was trained on
    assert shared(policy, tmp_path) is None
