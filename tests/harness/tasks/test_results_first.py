"""What a run was for is on the disk before anything is drawn of it."""

import json

import pytest

from harness.disk.files import read_json
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train


def breaks(*args, **kwargs):
    raise ValueError("no such glyph")


def kept(folder) -> dict:
    assert read_json(folder / "run.json")["finished"]
    return read_json(folder / "summary.json")


@pytest.mark.parametrize(
    "broken",
    [
        "harness.pipeline.policy_training.samples_table",
        "harness.pipeline.policy_training.policy_summary",
        "harness.pipeline.rungs.places",
        "harness.tracking.traces.draw",
    ],
)
def test_a_policy_is_there_whatever_cannot_be_drawn(broken, configure, tmp_path, monkeypatch):
    monkeypatch.setattr(broken, breaks)
    options = ("algo.iterations=1", "algo.val_prompts=4", "callbacks.trace_every=1")
    result = train(configure(tmp_path, *options))
    assert kept(tmp_path)["val/score"] == result["val/score"]
    assert (tmp_path / "model" / "config.json").is_file()
    assert (tmp_path / "samples.jsonl").is_file()
    assert len((tmp_path / "traces.jsonl").read_text(encoding="utf-8").splitlines()) > 0
    again = train(configure(tmp_path, *options, f"resume={tmp_path}"))
    assert again == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "broken",
    [
        "harness.pictures.reward_model.draw_reliability",
        "harness.pictures.reward_model.draw_scores",
        "harness.pipeline.rungs.numbers_shown",
    ],
)
def test_a_reward_model_is_there_whatever_cannot_be_drawn(broken, configure, tmp_path, monkeypatch):
    monkeypatch.setattr(broken, breaks)
    train(configure(tmp_path, "algo=reward_model"))
    assert "val/accuracy" in kept(tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    pictures = {path.stem for path in (tmp_path / "report").iterdir()}
    assert "margin" in pictures
    for name in ("reliability", "scores", "margin", "length"):
        assert (f"(report/{name}.png)" in report) == (name in pictures)


def test_an_evaluation_is_there_whatever_cannot_be_drawn(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.evaluation.verdict.numbers_shown", breaks)
    evaluate(configure(tmp_path, "task=evaluate", "reward=gold"))
    assert "val/accuracy" in kept(tmp_path)
