"""task=evaluate judge=...: the responses of two policies compared by a judge."""

import json

import pytest

from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from lightning_modules.errors import OptionError
from tests.harness.judging.planted import judging

PROMPTS = 12
SMALL = ("task=evaluate", f"evaluation.prompts={PROMPTS}", "evaluation.batch_size=5")


def longer(a, b):
    return None if len(a) == len(b) else len(a) > len(b)


@pytest.fixture
def trained(configure, tmp_path):
    """The summary of a tiny run of PPO, whose stages all tests share."""
    return train(configure(tmp_path / "ppo", "algo=ppo", "algo.iterations=1"))


def rows_of(folder):
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_responses_have_verdicts_and_win_rates_follow_from_them(
    configure, trained, tmp_path, capsys
):
    given = (*SMALL, f"policy={trained['folder']}", f"judge.cache={tmp_path}/judge")
    with judging(longer, leaning=0.2) as (server, to):
        summary = evaluate(configure(tmp_path / "run", *given, "judge=helpful", *to))
        asked = len(server.bodies)
        again = evaluate(configure(tmp_path / "again", *given, "judge=helpful", *to))
        assert 0 < asked == len(server.bodies)
    judged = {k: v for k, v in summary.items() if k.startswith("val/")}
    assert {"val/judge_win_rate", "val/win_rate", "val/score"} <= judged.keys()
    assert {name: again[name] for name in judged} == judged
    rows = rows_of(tmp_path / "run")
    assert rows == rows_of(tmp_path / "again")
    winners = [row["verdict"]["winner"] for row in rows]
    won = [{"answer": 1, "tie": 0.5, "reference_answer": 0}[winner] for winner in winners]
    assert summary["val/judge_win_rate"] == pytest.approx(sum(won) / PROMPTS)
    for row, winner in zip(rows, winners, strict=True):
        texts = row["answer"], row["reference_answer"]
        if winner != "tie":
            assert row[winner] == max(texts, key=len)
    assert summary["val/judge_longer"] == 1
    low, high = summary["val/judge_lc_win_rate_ci_low"], summary["val/judge_lc_win_rate_ci_high"]
    assert 0 <= low <= summary["val/judge_lc_win_rate"] <= high <= 1
    said = capsys.readouterr().out
    assert "win rate by the judge" in said
    assert "at equal lengths" in said


def test_models_that_no_run_tells_the_reward_of_are_judged_alone(configure, trained, tmp_path):
    model = f"{trained['stages/sft/path']}/model"
    given = (*SMALL, f"policy={model}", f"against={model}", f"judge.cache={tmp_path}/judge")
    with judging(longer) as (_, to):
        summary = evaluate(configure(tmp_path / "run", *given, "judge=pairwise", *to))
    assert 0 <= summary["val/judge_win_rate"] <= 1
    assert {"val/kl", "val/length", "reference/length"} <= summary.keys()
    assert not {"val/score", "val/win_rate", "reference/score"} & summary.keys()
    assert not any(name.startswith("stages/") for name in summary)
    assert {row["score"] for row in rows_of(tmp_path / "run")} == {None}


def test_a_judge_needs_policies_and_no_reward_needs_a_judge(configure, tmp_path):
    with pytest.raises(OptionError, match=r"judge=helpful: compares the responses of policies"):
        evaluate(configure(tmp_path / "run", "task=evaluate", "judge=helpful", "judge.model=x"))
    with pytest.raises(OptionError, match=r"reward=none: nothing would say"):
        train(configure(tmp_path / "run", "reward=none"))
