"""task=evaluate: the report on any reward, on the held-out pairs of any data."""

import json

import pytest
from transformers import AutoModelForSequenceClassification, GPT2Config

from datamodules.tokenization.loading import train_tokenizer
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from lightning_modules.errors import ModelError, OptionError

PICTURES = ("reliability.png", "scores.png", "margin.png", "length.png")


@pytest.fixture
def judged(configure, tmp_path):
    """judged(*overrides): the summary of an evaluation, whose files are complete."""

    def run(*overrides, name="run"):
        folder = tmp_path / name
        summary = evaluate(configure(folder, "task=evaluate", *overrides))
        kept = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        assert kept == {k: None if v != v else v for k, v in summary.items()}
        report = (folder / "report.md").read_text(encoding="utf-8")
        assert f"{100 * summary['val/accuracy']:.1f}" in report or (
            f"{summary['val/accuracy']:.3f}" in report
        )
        assert all((folder / "report" / picture).is_file() for picture in PICTURES)
        return summary

    return run


def held_out(summary, prefix=""):
    start = f"{prefix}val/"
    return {k.removeprefix(prefix): v for k, v in summary.items() if k.startswith(start)}


def test_the_runs_own_reward_model_is_judged_as_it_was_when_it_was_trained(judged):
    summary = judged()
    now, then = held_out(summary), held_out(summary, "stages/reward_model/")
    assert now.keys() <= then.keys()
    assert {"val/accuracy", "val/ece", "val/bayes_accuracy", "val/loss"} <= now.keys()
    assert now == pytest.approx({k: then[k] for k in now}, rel=1e-3, abs=1e-4, nan_ok=True)
    again = judged("reward.normalise=false", name="raw")
    assert held_out(again) == pytest.approx(now, rel=1e-3, abs=1e-4, nan_ok=True)
    assert again["stages/reward_model/reused"] is True


def test_a_reward_model_trained_alone_is_judged_from_its_folder(configure, judged, tmp_path):
    trained = train(configure(tmp_path / "rm", "algo=reward_model"))
    summary = judged("reward=checkpoint", f"reward.path={tmp_path / 'rm' / 'model'}")
    now = held_out(summary)
    assert now == pytest.approx({k: trained[k] for k in now}, rel=1e-3, abs=1e-4, nan_ok=True)
    assert not any(k.startswith("stages/") for k in summary)


def test_an_ensemble_is_judged_and_tells_where_its_heads_disagree(configure, judged, tmp_path):
    trained = train(configure(tmp_path / "rm", "algo=reward_model", "reward.ensemble=2"))
    summary = judged("reward=checkpoint", f"reward.path={tmp_path / 'rm' / 'model'}")
    assert summary["val/disagreement/right"] > 0
    assert summary["val/accuracy"] == pytest.approx(trained["val/accuracy"])
    about = json.loads((tmp_path / "rm" / "model" / "config.json").read_text(encoding="utf-8"))[
        "rlhf_ladder"
    ]
    assert about["ensemble"] == len(about["score_mean"]) == len(about["score_std"]) == 2


def test_a_reward_model_from_elsewhere(judged, world, tmp_path):
    tokenizer = train_tokenizer([text[::-1] for text in world.texts()], 300)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    config = GPT2Config(
        n_embd=8,
        n_layer=1,
        n_head=1,
        n_positions=128,
        vocab_size=len(tokenizer),
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    summary = judged("reward=checkpoint", f"reward.path={tmp_path / 'other'}")
    assert 0 <= summary["val/accuracy"] <= 1
    assert (
        summary["val/accuracy_ci_low"] < summary["val/accuracy"] < summary["val/accuracy_ci_high"]
    )


def test_a_language_model_is_refused_before_anything_is_made(configure, lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path / "lm")
    encoder.tokenizer.save_pretrained(tmp_path / "lm")
    overrides = ("task=evaluate", "reward=checkpoint", f"reward.path={tmp_path / 'lm'}")
    with pytest.raises(ModelError, match="not a reward model"):
        evaluate(configure(tmp_path / "run", *overrides, f"cache_dir={tmp_path / 'cache'}"))
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_function_is_judged_on_what_it_can_score(judged, tmp_path, monkeypatch):
    (tmp_path / "half_reward.py").write_text(
        "def score(prompts, responses):\n"
        "    return [None if 'know' in r else float(len(r)) for r in responses]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    summary = judged("reward=function", "reward.path=half_reward:score")
    # Length is what it scores.
    assert summary["val/score_length_correlation"] == pytest.approx(1)
    assert summary["val/accuracy"] == summary["val/accuracy_longer"]
    assert "could not be scored" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_a_policy_learns_from_several_rewards_at_once(configure, tmp_path, monkeypatch):
    (tmp_path / "short_reward.py").write_text(
        "def score(prompts, responses):\n"
        "    return [None if not r else -0.1 * len(r) for r in responses]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ("reward=combined", "reward.rewards.function.path=short_reward:score")
    summary = train(configure(tmp_path / "run", *overrides, "algo.critic=head"))
    assert summary["rollout/unscored"] < 1
    assert summary["val/score"] == summary["val/score"]
    assert "stages/reward_model/path" in summary
    with pytest.raises(Exception, match=r"reward\.weights\.function") as caught:
        train(configure(tmp_path / "bad", *overrides, "~reward.weights.function"))
    assert isinstance(caught.value.__cause__ or caught.value, OptionError)
