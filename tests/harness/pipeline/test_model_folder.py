import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from harness.pipeline.model_folder import export
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.scorers import new_scorer
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


def test_exporting_again_replaces_the_folder(lm, encoder, tmp_path):
    export(lm, encoder, tmp_path)
    (tmp_path / "model" / "stale").write_text("")
    export(lm, encoder, tmp_path)
    assert not (tmp_path / "model" / "stale").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
