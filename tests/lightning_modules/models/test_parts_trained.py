"""Which parts of a model LoRA goes into, and that this is said."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, TaskType

from lightning_modules.models.adapters import (
    adapter_parameters,
    add_adapter,
    add_value_adapter,
    merged,
    towers_without_text,
    training_notes,
)
from lightning_modules.models.scorers import new_scorer
from tests.lightning_modules.models.families import FAMILIES, family_folder, family_model
from tests.tolerances import of_model

LORA = LoraConfig(r=2, target_modules="all-linear")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_adapter_is_read_by_text(family, encoder):
    """And so gets a gradient; switched off or merged, the model says what it should."""
    model = family_model(family, encoder.tokenizer)
    ids = torch.arange(6, 18)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    adapted = add_adapter(
        model,
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
        TaskType.CAUSAL_LM,
        seed=0,
    ).eval()
    logits = adapted(input_ids=ids).logits
    logits.logsumexp(-1).square().sum().backward()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert not any("vision" in name for name in trained)
    with torch.no_grad():
        of_merged = merged(adapted)(input_ids=ids).logits
        torch.testing.assert_close(of_merged, logits, rtol=0, atol=of_model(adapted))
        with adapted.disable_adapter():
            off = adapted(input_ids=ids).logits
    torch.testing.assert_close(off, before, rtol=0, atol=of_model(model))


def test_a_tower_of_pictures_is_left_out_and_named(encoder, tmp_path):
    model = family_model("gemma3_with_vision", encoder.tokenizer)
    assert towers_without_text(model) == ["model.vision_tower"]
    adapted = add_adapter(model, LORA, TaskType.CAUSAL_LM, seed=0)
    assert training_notes(adapted) == ["LoRA leaves out what text never passes: model.vision_tower"]
    add_value_adapter(adapted, LORA, seed=1)
    assert len(adapter_parameters(adapted, "value")) == len(adapter_parameters(adapted, "default"))
    folder = family_folder("gemma3_with_vision", encoder.tokenizer, tmp_path)
    scorer = new_scorer(folder, encoder.tokenizer, seed=0)
    trained = add_adapter(scorer, LORA, TaskType.SEQ_CLS, seed=0).named_parameters()
    assert not any("vision" in name for name, p in trained if p.requires_grad)
    assert LORA.exclude_modules is None


@pytest.mark.parametrize("given", [["q_proj"], r".*\.q_proj"])
def test_what_is_excluded_by_hand_stays_excluded(given, encoder):
    model = family_model("gemma3_with_vision", encoder.tokenizer)
    lora = LoraConfig(r=2, target_modules="all-linear", exclude_modules=given)
    adapted = add_adapter(model, lora, TaskType.CAUSAL_LM, seed=0)
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert any("k_proj" in name for name in names)
    assert not any("q_proj" in name or "vision" in name for name in names)


def test_a_model_of_text_alone_is_not_run_for_it():
    config = SimpleNamespace()
    config.get_text_config = lambda: config
    assert towers_without_text(SimpleNamespace(config=config)) == []


def test_experts_and_routers_are_said(encoder):
    model = family_model("qwen3_moe", encoder.tokenizer)
    both = "a mixture of experts: its experts are trained and its routers are trained"
    assert training_notes(model) == [both]
    assert training_notes(add_adapter(model, LORA, TaskType.CAUSAL_LM, seed=0)) == [both]
    attention = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    adapted = add_adapter(
        family_model("qwen3_moe", encoder.tokenizer), attention, TaskType.CAUSAL_LM, seed=0
    )
    assert training_notes(adapted) == [
        "a mixture of experts: its experts are not trained and its routers are not trained"
    ]


def test_nothing_is_said_of_a_plain_model(lm):
    assert training_notes(lm) == []
    assert training_notes(add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0)) == []
