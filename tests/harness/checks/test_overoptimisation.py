"""The watch over the policy, the early stop, and the policy that is exported."""

import csv
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.checks.overoptimisation import PATIENCE, OverOptimisationWatch, turned
from harness.errors import RunError
from harness.tasks.train import train
from lightning_modules.errors import OptionError


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.4, 0.3, 0.2, 0.1], True),
        ([0.4, 0.3, 0.2], False),
        ([0.1, 0.4, 0.3, 0.3, 0.4], False),
        ([0.1, 0.4, 0.3, 0.3, 0.39], True),
        ([], False),
    ],
)
def test_a_curve_has_turned_when_its_best_is_three_evaluations_old(watched, expected):
    assert PATIENCE == 3
    assert turned(watched) is expected


def test_gold_is_drawn_where_the_world_knows_it(configure, tmp_path):
    train(configure(tmp_path, "algo=ppo"))
    assert (tmp_path / "overoptimisation.png").read_bytes().startswith(b"\x89PNG")


def test_a_held_out_head_watches_where_nobody_knows_the_gold(configure, tmp_path):
    pairs = [
        {"prompt": f"Say {i}", "chosen": f"{i} it is", "rejected": "no " * (i % 3 + 1)}
        for i in range(60)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    summary = train(
        configure(
            tmp_path / "run",
            "data=files",
            f"data.path={file}",
            "data.max_response_tokens=8",
            "model.vocab_size=300",
            "stages.sft.epochs=1",
            "reward.ensemble=3",
            "reward.held_out_head=true",
        )
    )
    assert "val/gold" not in summary
    assert summary["val/held_out_score"] != summary["val/score"]
    assert (tmp_path / "run" / "overoptimisation.png").is_file()


def test_a_held_out_head_needs_another_one(configure, tmp_path):
    with pytest.raises(Exception, match=r"reward\.held_out_head=True.*no other head") as caught:
        train(configure(tmp_path, "reward.held_out_head=true"))
    assert isinstance(caught.value.__cause__ or caught.value, OptionError)


def test_training_stops_when_the_watched_curve_has_turned(configure, tmp_path, monkeypatch):
    """With a learning rate of 0 nothing moves; a gold that falls at every look is a turn."""
    falling = iter(range(10**6, 0, -1))
    monkeypatch.setattr(
        "datamodules.sources.landmarks.Landmarks.gold", lambda self, prompt, text: next(falling)
    )
    options = ("algo.evaluate_every=1", "algo.iterations=20", "early_stop=gold")
    summary = train(configure(tmp_path, "algo=reinforce", *options))
    assert summary["rollout/episodes"] == (PATIENCE + 1) * 8


def test_the_policy_of_the_best_evaluation_is_exported_and_described(configure, tmp_path):
    options = ("algo.evaluate_every=1", "callbacks.keep_best=val/score", "algo.optimizer.lr=0.05")
    summary = train(configure(tmp_path, "algo=reinforce", *options))
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        scores = [float(row["val/score"]) for row in csv.DictReader(file)]
    assert summary["val/score"] == max(scores)
    best = summary["best/iteration"]
    assert best == scores.index(max(scores)) + 1
    checkpoint = tmp_path / "checkpoints" / f"iteration-{best - 1:05d}.ckpt"
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)["state_dict"]
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
        for name in exported.keys() & {n.removeprefix("model.lm.") for n in kept}:
            assert torch.equal(exported[name], kept[f"model.lm.{name}"])


@pytest.mark.parametrize("metric", ["rollout/score", "val/typo"])
def test_a_metric_that_is_none_of_the_held_out_ones_is_refused(configure, tmp_path, metric):
    with pytest.raises((OptionError, RunError), match=r"callbacks\.keep_best=" + metric):
        train(configure(tmp_path, f"callbacks.keep_best={metric}", "algo.evaluate_every=1"))


def test_only_gold_stops_early(configure, tmp_path):
    with pytest.raises(OptionError, match=r"early_stop=score: must be gold"):
        train(configure(tmp_path, "early_stop=score"))


def test_the_curves_begin_with_the_reference_also_when_resumed(configure, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "harness.checks.overoptimisation.draw", lambda points, *about: drawn.append(points)
    )
    options = ("algo=reinforce", "algo.evaluate_every=1", "algo.iterations=2")
    summary = train(configure(tmp_path, *options))
    start, *evaluations = drawn[-1]
    assert start == {
        "rollout/episodes": 0,
        "val/kl": 0,
        "val/score": pytest.approx(summary["reference/score"]),
        "watched": pytest.approx(summary["reference/gold"]),
    }
    again = OverOptimisationWatch(tmp_path, None, early_stop=None, title="")
    assert [p["val/score"] for p in again.points] == [p["val/score"] for p in evaluations]
