"""A base in 4 bits is the same model in every role, and what is exported has no 4 bits left."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoModelForCausalLM

from harness.checks.memory import states_per_weight, weight_bytes
from harness.pipeline.model_folder import export
from lightning_modules.forward.packed_parameters import is_packed, numbers
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    active_adapters,
    add_adapter,
    merged,
    put_beside,
)
from lightning_modules.models.loading import LoadOptions, load_causal_lm
from lightning_modules.models.one_base import BASE, base_digest, critic_on, reward_on
from lightning_modules.models.parameters import parameter_counts
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import REWARD_CONFIG, ScalarModel
from lightning_modules.models.scorers import load_scorer, new_scorer
from tests.exact.world import tiny_lm
from tests.lightning_modules import tiny_runs
from tests.tolerances import of_model

bitsandbytes = pytest.importorskip("bitsandbytes")

LORA = LoraConfig(r=4, target_modules="all-linear")
PACKED = LoadOptions(packed=True)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
MASK = torch.ones_like(IDS)
MASKS = MASK[:, :3].bool(), MASK[:, 3:].bool()


def shake(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture
def folder(lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path / "lm")
    encoder.tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def policy(folder):
    lm = load_causal_lm(folder, how=PACKED)
    return shake(add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0))


def test_sampling_without_gradients_changes_neither_outputs_nor_gradients(policy):
    """The library may pack a layer anew for a kernel that has no backward pass."""
    trained = [p for p in policy.parameters() if p.requires_grad]

    def passed():
        outputs = policy(input_ids=IDS).logits
        return outputs.detach(), torch.autograd.grad(outputs.square().sum(), trained)

    before, gradients = passed()
    with torch.no_grad():
        assert torch.equal(policy(input_ids=IDS).logits, before)
    after, again = passed()
    assert torch.equal(after, before)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    assert float(gradients[0].abs().max()) > 0


def test_what_is_packed_is_counted_as_it_is_held_and_as_what_it_stands_for(folder, policy):
    whole = load_causal_lm(folder)
    packed = policy.get_base_model()
    layers = [p for p in packed.parameters() if is_packed(p)]
    assert layers
    trained = parameter_counts(policy)[1]
    assert parameter_counts(policy)[0] - trained == parameter_counts(whole)[0]
    # Half a byte in the place of four, the scales of blocks of 64, and of each layer two codes.
    saved = weight_bytes([whole]) - (weight_bytes([policy]) - 4 * trained)
    of_layers = sum(map(numbers, layers))
    codes = 4 * (16 + 256) * len(layers)
    assert 3.4 * of_layers < saved + codes < 3.5 * of_layers


@torch.no_grad()
def test_the_exported_policy_is_the_trained_one_in_whole_weights(policy, encoder, tmp_path):
    expected = policy(input_ids=IDS).logits
    export(policy, encoder, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert not hasattr(plain.config, "quantization_config")
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    tolerance = of_model(plain)
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=0, atol=tolerance)
    assert torch.equal(policy(input_ids=IDS).logits, expected)
    # As a library's own merge would leave it, in 4 bits, it would be another model.
    original = load_causal_lm(tmp_path / "lm")
    assert (original(input_ids=IDS).logits - expected).abs().max() > 10 * tolerance


@torch.no_grad()
def test_policy_reference_reward_and_critic_are_one_packed_base(policy, folder, encoder, tmp_path):
    scorer = new_scorer(folder, encoder.tokenizer, seed=1, how=PACKED)
    own = shake(add_adapter(scorer, LORA, TaskType.SEQ_CLS, seed=2))
    about = {"score_mean": [0.3], "score_std": [1.5], BASE: base_digest(own)}
    own.get_base_model().config.update({REWARD_CONFIG: about})
    export(own, encoder, tmp_path / "rm")
    reward = reward_on(policy, tmp_path / "rm" / "model", normalised=True)
    expected = ScalarModel(own).heads(IDS, MASK)
    assert torch.equal(reward.heads(IDS, MASK), expected)
    critic = critic_on(policy, LORA, 3, reward)
    model = ActorCritic(policy, critic=critic, value_adapter=VALUE_ADAPTER)
    assert torch.equal(critic.heads(IDS, MASK), expected)  # as it begins
    # The exported reward model, whose weights are whole, gives these scores to anybody.
    alone = ScalarModel(load_scorer(tmp_path / "rm" / "model"))
    tolerance = of_model(alone.model)
    torch.testing.assert_close(alone.heads(IDS, MASK), expected, rtol=0, atol=tolerance)
    reference = Reference(policy, shares_policy=True).logprobs(IDS, *MASKS, 1.0)
    base = load_causal_lm(folder, how=PACKED)
    assert torch.equal(reference, ActorCritic(base)(IDS, *MASKS, 1.0).logprobs)
    assert weight_bytes([model]) < weight_bytes([policy.get_base_model()]) + 200_000


@torch.no_grad()
def test_several_adapters_on_a_packed_base_are_merged_together(policy):
    """As those of a critic that is made of a reward model."""
    put_beside(policy, "reward", deepcopy(LORA), trained=True)
    shake(policy)
    with active_adapters(policy, "default", "reward"):
        expected = policy(input_ids=IDS).logits
        plain = merged(policy)
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=0, atol=of_model(plain))


OPTIMIZERS = {
    "Adam": torch.optim.Adam,
    # The parameters of this world are few: 8 bits for all of them.
    "AdamW8bit": partial(bitsandbytes.optim.AdamW8bit, min_8bit_size=2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_on_a_packed_base_that_goes_on_is_the_unbroken_one(optimizer, tmp_path, monkeypatch):
    tiny_lm("llama").float().save_pretrained(tmp_path / "lm")

    def models(critic):
        lm = load_causal_lm(tmp_path / "lm", how=PACKED)
        lm = add_adapter(lm, tiny_runs.LORA, TaskType.CAUSAL_LM, seed=1)
        value = critic_on(lm, tiny_runs.LORA, 2, None)
        model = ActorCritic(lm, critic=value, value_adapter=VALUE_ADAPTER)
        return model, Reference(lm, shares_policy=True)

    monkeypatch.setattr(tiny_runs, "models", models)
    how = {"critic": "copy", "iterations": 4}
    how["optimizer"] = partial(OPTIMIZERS[optimizer], lr=1e-2)
    whole, again = (tiny_runs.ready(tiny_runs.make("ppo", **how))[0] for _ in range(2))
    rows = tiny_runs.fit(whole, tmp_path / "whole")
    checkpoint = tmp_path / "whole" / "epoch=1.ckpt"
    resumed = tiny_runs.fit(again, tmp_path / "again", resume=checkpoint)
    measured = [k for k in resumed[0] if not k.startswith(("time/", "throughput/"))]
    assert [[r.get(k) for k in measured] for r in resumed] == [
        [r.get(k) for k in measured] for r in rows[2:]
    ]
    for a, b in zip(whole.trained_parameters(), again.trained_parameters(), strict=True):
        assert torch.equal(a, b)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(".lora_" in name or name == "model.critic.own_head.weight" for name in state)


def test_moments_in_8_bits_take_a_quarter_of_the_memory():
    adam = partial(torch.optim.AdamW, lr=1.0)
    ours = states_per_weight(partial(bitsandbytes.optim.AdamW8bit, lr=1.0))
    assert ours == pytest.approx(states_per_weight(adam) / 4, rel=0.05)
