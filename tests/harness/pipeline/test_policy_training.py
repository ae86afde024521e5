"""What a policy run finds in its reward before it trains anything."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, LlamaConfig

from datamodules.records import DataError
from datamodules.tokenization.loading import train_tokenizer
from harness.tasks.train import train

TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
REFUSES = "{% if 'Why 7' in messages[0].content %}{{ raise_exception('not that') }}{% endif %}"


@pytest.fixture
def reward_model(world, tmp_path):
    """reward_model(template): the folder of one from elsewhere."""

    def save(template: str) -> Path:
        tokenizer = train_tokenizer(world.texts(), 320)
        tokenizer.chat_template = template
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        config = LlamaConfig(
            **sizes,
            num_attention_heads=1,
            max_position_embeddings=64,
            vocab_size=len(tokenizer),
            num_labels=1,
        )
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "rm")
        tokenizer.save_pretrained(tmp_path / "rm")
        return tmp_path / "rm"

    return save


@pytest.fixture
def run(configure, tmp_path):
    """run(reward model, *overrides): a policy run of a toy model, whose reference is not there."""
    rows = [{"prompt": f"Why {i}?", "chosen": f"So {i}.", "rejected": "No."} for i in range(24)]
    data = {"train": rows, "val": rows[20:]}
    for name, part in data.items():
        lines = (json.dumps(row) + "\n" for row in part)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    files = (f"data.path={tmp_path / 'train.jsonl'}", f"data.val_path={tmp_path / 'val.jsonl'}")

    def go(folder: Path, *overrides: str):
        reward = ("reward=checkpoint", f"reward.path={folder}", "algo=rloo")
        places = ("data=files", *files, f"cache_dir={tmp_path / 'own_cache'}")
        return train(configure(tmp_path / "run", *places, *reward, *overrides))

    return go


def test_a_template_that_cannot_be_read_is_met_before_the_reference_is_trained(
    run, reward_model, tmp_path
):
    with pytest.raises(DataError, match=r"reward model \S+rm: .*cannot be read"):
        run(reward_model("{% for m in"))
    assert not (tmp_path / "own_cache").exists()


def test_so_is_a_prompt_that_the_reward_model_refuses(run, reward_model, tmp_path):
    """One of 24, so that the first iteration might not have it."""
    path = reward_model(REFUSES + TURNS)
    with pytest.raises(DataError, match=r"reward model \S+rm: .*not that.*user: Why 7\?"):
        run(path)
    assert not (tmp_path / "own_cache").exists()


def test_who_reads_all_prompts_scores_them(run, reward_model, capsys):
    summary = run(reward_model("{{ strftime_now('%Y') }}" + TURNS), "algo.iterations=1")
    assert summary["val/score"] == summary["val/score"]
    assert "asks for the date" in capsys.readouterr().out
