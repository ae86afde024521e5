"""task=evaluate policy=...: any policy against any other, by any reward."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from tests.tolerances import of_model

SMALL = ("task=evaluate", "evaluation.prompts=12", "evaluation.batch_size=5")


@pytest.fixture
def reference(configure, tmp_path):
    """The folder of the reference that all tiny runs start from."""
    summary = train(configure(tmp_path / "ppo", "algo=ppo"))
    return summary["stages/sft/path"]


def test_a_policy_against_its_reference_as_training_measured_it(configure, reference, tmp_path):
    policy = tmp_path / "ppo"
    summary = evaluate(configure(tmp_path / "run", *SMALL, f"policy={policy}"))
    assert summary["val/kl_k3"] > 0
    assert 0 <= summary["val/win_rate_ci_low"] <= summary["val/win_rate"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open()]
    assert len(rows) == 12
    mean = sum(row["score"] for row in rows) / 12
    assert summary["val/score"] == pytest.approx(mean)
    named = evaluate(configure(tmp_path / "n", *SMALL, f"policy={policy}", f"against={reference}"))
    assert named["val/win_rate"] == summary["val/win_rate"]
    assert named["reference/score"] == summary["reference/score"]


def test_a_policy_against_itself_has_no_kl_and_wins_half(configure, reference, tmp_path):
    both = (f"policy={reference}", f"against={reference}", "reward=gold")
    summary = evaluate(configure(tmp_path / "run", *SMALL, *both))
    tolerance = of_model(AutoModelForCausalLM.from_pretrained(f"{reference}/model"))
    assert abs(summary["val/kl"]) <= summary["val/length"] * tolerance
    assert summary["val/win_rate_ci_low"] < 0.5 < summary["val/win_rate_ci_high"]
    assert summary["val/gold"] == summary["val/score"]


def test_an_opponent_with_another_tokenizer_is_compared_by_text(
    configure, reference, world, tmp_path
):
    tokenizer = train_tokenizer([text[::-1] for text in world.texts()], 300)
    lm = AutoModelForCausalLM.from_pretrained(f"{reference}/model")
    lm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lm.config.eos_token_id = tokenizer.eos_token_id
    lm.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    players = (f"policy={reference}", f"against={tmp_path / 'other'}")
    summary = evaluate(configure(tmp_path / "run", *SMALL, *players))
    assert "val/kl" not in summary
    assert torch.tensor(summary["val/score"]).isfinite()
    own = load_tokenizer(tmp_path / "other")
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open()]
    for row in rows:
        ids = own(row["reference_answer"], add_special_tokens=False)["input_ids"]
        assert own.decode(ids) == row["reference_answer"]
