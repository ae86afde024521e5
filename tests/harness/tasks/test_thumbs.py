"""Thumbs from a file to an exported reward model, its report, and a policy trained by it."""

import json

import pytest
import torch

from datamodules.sources.landmarks import Landmarks
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train

LOSS = "stages.reward_model.loss=thumbs"


@pytest.fixture
def rows(tmp_path):
    """A file with thumbs and a few pairs."""
    world = Landmarks(train_pairs=24, val_pairs=1, train_thumbs=96)
    table = [
        {"prompt": t.prompt.text, "completion": t.response, "label": t.liked}
        for t in world.thumbs("train")
    ]
    table += [
        {"prompt": p.prompt.text, "chosen": p.chosen, "rejected": p.rejected}
        for p in world.comparisons("train")
    ]
    path = tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return ("data=files", f"data.path={path}", "data.held_out=0.3")


def test_a_reward_model_is_fitted_to_thumbs_and_pairs_and_judged_by_both(
    configure, rows, tmp_path, metrics_of
):
    ours = ("algo=reward_model", "algo.loss=thumbs", "reward.ensemble=2", "algo.epochs=2")
    trained = train(configure(tmp_path / "rm", *rows, *ours))
    about = json.loads((tmp_path / "rm" / "model" / "config.json").read_text(encoding="utf-8"))
    biases = about["rlhf_ladder"]["thumbs_bias"]
    assert len(biases) == 2
    assert trained["val/thumbs_bias"] == pytest.approx(sum(biases) / 2, rel=1e-6)
    (path,) = (tmp_path / "rm" / "checkpoints").glob("epoch*.ckpt")
    kept = torch.load(path, weights_only=True)["state_dict"]
    assert kept["model.thumbs_bias"].shape == (2,)
    assert {"val/loss", "val/accuracy", "val/thumbs_loss", "val/thumbs_accuracy"} <= trained.keys()
    seen = {name for row in metrics_of(tmp_path / "rm") for name in row}
    assert {"train/thumbs_accuracy", "train/accuracy", "val/thumbs_auc"} <= seen
    report = (tmp_path / "rm" / "report.md").read_text(encoding="utf-8")
    assert "## Thumbs" in report

    place = f"reward.path={tmp_path / 'rm' / 'model'}"
    judged = evaluate(configure(tmp_path / "e", "task=evaluate", *rows, "reward=checkpoint", place))
    of_thumbs = {k: v for k, v in judged.items() if k.startswith("val/thumbs_")}
    expected = {k: trained[k] for k in of_thumbs}
    assert of_thumbs == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    assert judged["val/accuracy"] == pytest.approx(trained["val/accuracy"])


def test_a_policy_is_trained_by_thumbs(configure, rows, tmp_path):
    few = ("algo=reinforce", "algo.iterations=1", "algo.prompts_per_iteration=4")
    summary = train(configure(tmp_path / "run", *rows, LOSS, *few))
    assert "stages/reward_model/val/thumbs_auc" in summary
    assert abs(summary["reference/score"]) < 10
