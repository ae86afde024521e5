"""Adapters are part of the weights for a while, and no bit of anything is another afterwards."""

from contextlib import suppress

import pytest
import torch
from peft import LoraConfig, TaskType

from lightning_modules.models.adapters import adapters_off, add_adapter
from lightning_modules.rollouts.merged_adapters import adapters_merged, mergeable
from tests.lightning_modules.rollouts.test_bucketed import IDS, toy
from tests.tolerances import of_model

KINDS = {
    "linear": {"target_modules": "all-linear"},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "embedding": {"target_modules": ["embed_tokens", "wte", "q_proj", "c_attn"]},
    "bias": {"target_modules": ["q_proj", "c_attn"], "lora_bias": True},
}


def adapted(name, kind, dtype):
    lora = LoraConfig(r=2, **KINDS[kind])
    base = toy(name, dtype)
    if kind == "bias" and name == "llama":
        pytest.skip("its layers have no bias to merge into")
    model = add_adapter(base, lora, TaskType.CAUSAL_LM, seed=1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.2)
    return model.eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_weights_come_back_to_the_bit_and_the_model_says_the_same(name, kind, dtype):
    model = adapted(name, kind, dtype)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    places = {key: p.data_ptr() for key, p in model.named_parameters()}
    usual = model(IDS).logits
    layers = mergeable(model)
    with suppress(KeyboardInterrupt), adapters_merged(model):
        inside = model(IDS).logits
        assert all(layer.merged for layer in layers)
        raise KeyboardInterrupt
    assert not any(layer.merged for layer in layers)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert {key: p.data_ptr() for key, p in model.named_parameters()} == places
    assert torch.equal(model(IDS).logits, usual)
    # GPT-2's embeddings are its head's weights too, where an adapter of the embeddings is not.
    assert len(layers) == {"linear": 14, "dora": 14, "embedding": 3, "bias": 2}[kind] - {
        ("gpt2", "linear"): 6,
        ("gpt2", "dora"): 6,
        ("gpt2", "embedding"): 1,
    }.get((name, kind), 0)
    if dtype != torch.bfloat16:
        torch.testing.assert_close(inside, usual, rtol=0, atol=10 * of_model(model))


def test_adapters_that_are_off_stay_out():
    model = adapted("llama", "linear", torch.float32)
    with adapters_off(model):
        without = model(IDS).logits
        with adapters_merged(model):
            assert torch.equal(model(IDS).logits, without)
    assert not torch.equal(model(IDS).logits, without)


def test_weights_that_are_quantised_are_left_as_they_are():
    """Stood for by one of whole numbers, as four bits are packed into."""
    model = adapted("llama", "linear", torch.float32)
    first = mergeable(model)[0]
    packed = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    first.get_base_layer().weight = packed
    assert first not in mergeable(model)
    assert len(mergeable(model)) == 13
