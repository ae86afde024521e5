"""Models and adapters that come otherwise, through the same entry as the command line."""

import json

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, RobertaConfig, RobertaForCausalLM

from harness.tasks.train import train
from lightning_modules.errors import ModelError, OptionError
from tests.lightning_modules.models.families import NEOX, USUAL, family_folder


@pytest.fixture
def save(encoder, tmp_path):
    """save(model): its folder, with a tokenizer."""

    def write(model):
        folder = tmp_path / "lm"
        model.save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
        return f"model.pretrained={folder}"

    return write


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Say {i % 12}", "chosen": f"It is {i % 12}.", "rejected": f"No {i}"}
        for i in range(48)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokens = ("data.max_prompt_tokens=32", "data.max_response_tokens=16")
    return ("data=files", f"data.path={path}", *tokens, "algo.epochs=1")


def ids_of(encoder):
    names = ("pad", "bos", "eos")
    return {f"{name}_token_id": getattr(encoder.tokenizer, f"{name}_token_id") for name in names}


def test_lists_of_lora_reach_its_files(configure, pairs, encoder, tmp_path):
    model = family_folder("llama", encoder.tokenizer, tmp_path / "lm")
    adapter = (
        "adapter=lora",
        "adapter.config.target_modules=[q_proj,v_proj]",
        "+adapter.config.modules_to_save=[lm_head]",
    )
    run = tmp_path / "run"
    train(configure(run, *pairs, "algo=sft", f"model.pretrained={model}", *adapter))
    written = json.loads((run / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert sorted(written["target_modules"]) == ["q_proj", "v_proj"]
    assert written["modules_to_save"] == ["lm_head"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("adapter.config.target_modules=[nope]", r"adapter\.config\.target_modules=nope"),
        ("adapter.config.r=0", r"adapter\.config: "),
        ("+adapter.config.nonsense=3", r"adapter\.config: .*nonsense"),
    ],
)
@pytest.mark.parametrize("toy", [True, False])
def test_lora_is_tried_before_a_stage_is_trained(option, said, toy, configure, encoder, tmp_path):
    model = ()
    if not toy:
        folder = family_folder("llama", encoder.tokenizer, tmp_path / "lm")
        model = (f"model.pretrained={folder}", "data.max_prompt_tokens=32")
    cache = tmp_path / "cache"
    overrides = (*model, "adapter=lora", option, f"cache_dir={cache}")
    with pytest.raises(OptionError, match=said):
        train(configure(tmp_path / "run", *overrides))
    assert not cache.exists()


def test_sft_needs_no_reward(configure, pairs, save, encoder, tmp_path):
    """Nor a family of which a reward model could be made."""
    config = GraniteConfig(vocab_size=len(encoder.tokenizer), **USUAL, **ids_of(encoder))
    model = save(GraniteForCausalLM(config))
    summary = train(configure(tmp_path / "run", *pairs, "algo=sft", model))
    assert summary["val/loss"] > 0
    with pytest.raises(ModelError, match="of type granite, so no reward model"):
        train(configure(tmp_path / "rm", *pairs, "algo=reward_model", model))
    others = tuple(option for option in pairs if option != "algo.epochs=1")
    with pytest.raises(ModelError, match="of type granite, so no reward model"):
        train(configure(tmp_path / "ppo", *others, model))


def test_positions_of_its_own_are_not_trained(configure, pairs, save, encoder, tmp_path):
    config = RobertaConfig(
        vocab_size=len(encoder.tokenizer), is_decoder=True, **NEOX, **ids_of(encoder)
    )
    torch.manual_seed(0)
    lm = RobertaForCausalLM(config)
    for parameter in lm.parameters():
        parameter.data.mul_(3.0)
    with pytest.raises(ModelError, match="says something else in a padded batch"):
        train(configure(tmp_path / "run", *pairs, "algo=sft", save(lm)))
