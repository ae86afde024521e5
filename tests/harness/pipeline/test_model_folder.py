"""What is exported is what was trained, to whoever loads it."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from harness.pipeline.model_folder import export
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.scorers import new_scorer
from tests.lightning_modules.models.families import family_folder
from tests.tolerances import of_model

IDS = torch.tensor([[5, 6, 7, 8]])


def with_adapter(model, task):
    """LoRA whose B is not zero, so that it says something."""
    adapted = add_adapter(
        model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False), task, seed=0
    )
    return adapted.eval()


@pytest.mark.parametrize("adapter", [False, True])
def test_a_policy_says_the_same_after_a_round_trip(adapter, lm, encoder, tmp_path):
    model = with_adapter(lm, TaskType.CAUSAL_LM) if adapter else lm
    expected = model(IDS).logits
    export(model, encoder, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(loaded(IDS).logits, expected, rtol=0, atol=of_model(model))
    assert loaded.generation_config.eos_token_id == encoder.stop_id
    assert (tmp_path / "adapter").exists() == adapter
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == encoder.tokenizer.chat_template
    assert tokenizer("The Taj Mahal") == encoder.tokenizer("The Taj Mahal")


@pytest.mark.parametrize("adapter", [False, True])
def test_a_reward_model_scores_the_same_after_a_round_trip(adapter, lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path / "lm")
    model = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=1)
    if adapter:
        model = with_adapter(model, TaskType.SEQ_CLS)
    expected = model(IDS).logits
    export(model, encoder, tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(loaded(IDS).logits, expected, rtol=0, atol=of_model(model))


@torch.no_grad()
def test_what_was_learnt_on_a_base_in_16_bits_is_exported_whole(lm, encoder, tmp_path):
    """A change of every weight by less than bfloat16 tells apart."""
    model = with_adapter(lm.bfloat16(), TaskType.CAUSAL_LM)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.mul_(1e-3)
    before = [p.clone() for p in model.parameters()]
    export(model, encoder, tmp_path)
    assert all(map(torch.equal, model.parameters(), before))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    there = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    state = get_peft_model_state_dict(model)
    assert there.keys() == state.keys()
    assert all(torch.equal(there[name], state[name]) for name in state)
    # Half as large, if asked for, and rounded once.
    export(model, encoder, tmp_path / "half", dtype=torch.bfloat16)
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "half" / "model").state_dict()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(half[name], weight.bfloat16()), name
    # The policy itself, computed in the same precision.
    policy = model.float()
    expected = policy(IDS).logits
    torch.testing.assert_close(loaded(IDS).logits, expected, rtol=0, atol=of_model(policy))
    with policy.disable_adapter():
        assert (policy(IDS).logits - expected).abs().max() > 5 * of_model(policy)


SAMPLED_BY = """
import sys, torch, transformers
torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
torch.manual_seed(0)
texts = model.generate(torch.full((4000, 1), 7), max_new_tokens=1)
print(texts[:, -1].bincount(minlength=model.config.vocab_size).tolist())
"""


def test_plain_transformers_samples_what_was_trained(encoder, tmp_path):
    """At the training temperature, from all tokens with a text: not from the 50 most likely."""
    source = family_folder("llama", encoder.tokenizer, tmp_path / "base", spare=5)
    lm = load_causal_lm(source)
    lm.lm_head.weight.data.mul_(0.3)  # near to uniform, so that no 50 tokens have it all
    export(lm, encoder, tmp_path, temperature=0.5)
    done = subprocess.run(
        [sys.executable, "-c", SAMPLED_BY, tmp_path / "model"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    counts = torch.tensor(json.loads(done.stdout), dtype=torch.float64)
    with torch.no_grad():
        expected = 4000 * (lm(torch.tensor([[7]])).logits[0, -1].double() / 0.5).softmax(-1)
    assert (expected > 0).sum() == len(encoder.tokenizer)
    assert (counts[expected == 0] == 0).all()
    seen = expected > 0
    # Pearson's statistic: its mean is the degrees of freedom, its variance about twice that.
    statistic = ((counts - expected)[seen].square() / expected[seen]).sum()
    freedom = int(seen.sum()) - 1
    assert abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("family", ["llama", "opt", "gemma3_with_vision"])
def test_special_ids_are_in_both_configs(family, encoder, tmp_path, monkeypatch):
    lm = load_causal_lm(family_folder(family, encoder.tokenizer, tmp_path / "base"))
    stops = (encoder.stop_id, 9)
    monkeypatch.setattr(type(encoder), "stop_ids", stops)
    lm.config.get_text_config().pad_token_id = -1
    export(lm, encoder, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    config = loaded.config
    for said in (config, config.get_text_config(), loaded.generation_config):
        assert said.eos_token_id == list(stops)
        assert said.pad_token_id == encoder.pad_id
        assert said.bos_token_id == encoder.tokenizer.bos_token_id


def test_no_padding_is_exported_that_has_no_embedding(encoder, tmp_path, monkeypatch):
    own = encoder.tokenizer.pad_token
    lm = load_causal_lm(family_folder("llama", encoder.tokenizer, tmp_path / "base"))
    monkeypatch.setattr(type(encoder), "pad_id", len(encoder.tokenizer))
    export(lm, encoder, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.config.pad_token_id == encoder.stop_id
    assert encoder.tokenizer.pad_token == own  # a run goes on with it


def test_exporting_again_replaces_the_folder(lm, encoder, tmp_path):
    export(lm, encoder, tmp_path)
    (tmp_path / "model" / "stale").write_text("", encoding="utf-8")
    export(lm, encoder, tmp_path)
    assert not (tmp_path / "model" / "stale").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
