"""task=judge: labels by a judge behind a real endpoint, and the report on it."""

import json

import pytest
from transformers import LlamaConfig

from datamodules.records import DataError
from datamodules.sources.files import Files
from harness.errors import RunError
from harness.feedback.answers import Answer, AnsweredPrompt, write_answers
from harness.tasks.judge import judge
from lightning_modules.errors import JudgeError, OptionError
from lightning_modules.models.loading import random_causal_lm
from tests.harness.judging.planted import judging
from tests.harness.judging.test_pairs import answered

GOOD, BAD = "this is good, they say", "this is bad"
PAIRS = 40
RIGHT = 30  # of the labels, by the planted judge


def prefers_good(a, b):
    return ("good" in a) > ("good" in b)


@pytest.fixture
def labelled(configure, tmp_path):
    """labelled(name, *options): task=judge on pairs, of which the judge prefers 30 as labelled."""
    rows = []
    for i in range(PAIRS):
        chosen, rejected = (GOOD, BAD) if i < RIGHT else (BAD, GOOD)
        rows.append({"prompt": f"question {i}", "chosen": f"{i} {chosen}", "rejected": rejected})
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(name, *options):
        data = ("task=judge", "data=files", f"data.path={path}", f"judge.cache={tmp_path}/judge")
        return judge(configure(tmp_path / name, *data, *options))

    return run


def test_agreement_is_what_was_planted_and_labels_are_data(labelled, tmp_path):
    with judging(prefers_good) as (server, options):
        summary = labelled("run", *options)
    assert summary["judge/agreement"] == RIGHT / PAIRS
    assert summary["judge/kappa"] == 0.5
    assert summary["judge/agreement_ties_half"] == RIGHT / PAIRS
    assert summary["judge/read_first"] == 0.5
    assert summary["judge/ties"] == summary["judge/unscored"] == 0
    assert summary["judge/longer"] == 1
    assert summary["judge/labelled"] == PAIRS
    assert summary["judge/requests"] == len(server.bodies) == 2 * PAIRS + 1  # one to begin with
    source = Files(path=str(tmp_path / "run" / "pairs.jsonl"))
    pairs = [pair for split in ("train", "val") for pair in source.preferences(split)]
    assert len(pairs) == PAIRS
    assert all("good" in pair.chosen and "bad" in pair.rejected for pair in pairs)
    row = json.loads((tmp_path / "run" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert row["annotator"].startswith("toy at http://127.0.0.1:")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "agrees with 75% of the labels" in report
    assert "No leaning to either place is shown" in report


def test_a_leaning_to_what_is_read_first_is_found(labelled, tmp_path):
    """Of 40% of the questions A is the answer: of all verdicts 0.4 + 0.6 / 2 are for it, and the
    orders disagree where the one that has the better response second is among the 40%.
    """
    with judging(prefers_good, leaning=0.4) as (_, options):
        summary = labelled("run", *options)
    assert summary["judge/read_first_ci_low"] > 0.5
    assert summary["judge/read_first_ci_low"] < 0.7 < summary["judge/read_first_ci_high"]
    assert summary["judge/ties"] == summary["judge/orders_disagree"]
    assert summary["judge/ties"] == pytest.approx(0.4, abs=0.2)
    assert summary["judge/labelled"] == PAIRS * (1 - summary["judge/ties"])
    assert summary["judge/read_first"] == pytest.approx(0.5 + summary["judge/ties"] / 2)
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "It leans towards the response that is read first" in report
    assert "Where the two orders disagree most" in report


def test_the_same_again_costs_nothing(labelled, tmp_path):
    with judging(prefers_good, leaning=0.3, silent=(f"7 {GOOD}",)) as (server, options):
        with pytest.raises(JudgeError, match=r"judge\.max_requests=31"):
            labelled("stopped", *options, "judge.max_requests=31", "judge.concurrency=4")
        asked = len(server.bodies)
        assert asked <= 31
        first = labelled("run", *options)
        assert max(server.asked.values()) == 1
        asked = len(server.bodies)
        again = labelled("again", *options)
        assert len(server.bodies) == asked
    assert again["judge/requests"] == 0
    assert again["judge/from_cache"] == again["judge/asked"]
    kept = {name for name in first if name.startswith("judge/")}
    kept -= {"judge/requests", "judge/from_cache", "judge/tokens", "judge/malformed"}
    assert {name: first[name] for name in kept} == {name: again[name] for name in kept}
    for name in ("pairs.jsonl", "verdicts.jsonl"):
        files = [(tmp_path / run / name).read_bytes() for run in ("run", "again")]
        assert files[0] == files[1]
    assert first["judge/unscored"] == 1 / PAIRS


def test_answers_of_two_policies_are_labelled_and_the_policies_compared(configure, tmp_path):
    rows = [
        answered(f"q{i}", ("old", f"{BAD} {i}"), ("new", GOOD if i < 8 else f"so {BAD}"))
        for i in range(10)
    ]
    write_answers(tmp_path / "answers.jsonl", rows)
    given = ("task=judge", f"items={tmp_path / 'answers.jsonl'}", f"judge.cache={tmp_path}/judge")
    with judging(lambda a, b: prefers_good(a, b) if "good" in a + b else None) as (server, to):
        summary = judge(configure(tmp_path / "run", *given, *to))
        assert len(server.bodies) == 2 * len(rows) + 1
        few = judge(configure(tmp_path / "few", *given, *to, "pairs=4"))
    assert few["judge/pairs"] == 4
    assert few["data/not asked about, by `pairs`"] == 6
    assert summary["judge/old/against/new/win_rate"] == 0.1
    assert summary["judge/labelled"] == 8
    assert summary["judge/ties"] == 0.2
    assert "judge/agreement" not in summary
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| old | new | 0.100 [" in report


def test_what_cannot_be_judged_is_said(configure, tmp_path):
    same = AnsweredPrompt("x", answered("q").prompt, (Answer("a", "p", 0, True, 1),) * 2)
    write_answers(tmp_path / "same.jsonl", [same])
    write_answers(tmp_path / "ok.jsonl", [answered("q", ("old", "a"), ("new", "b"))])
    folder, to = tmp_path / "run", ("task=judge", "judge.model=none")
    with pytest.raises(OptionError, match=r"judge=none: give the rubric"):
        judge(configure(folder, "task=judge", "judge=none"))
    with pytest.raises(OptionError, match=r"split=held_out: must be one of train, val, all"):
        judge(configure(folder, *to, "split=held_out"))
    with pytest.raises(OptionError, match=r"pairs=0"):
        judge(configure(folder, *to, "pairs=0"))
    with pytest.raises(DataError, match=r"no\.jsonl"):
        judge(configure(folder, *to, f"items={tmp_path}/no.jsonl"))
    with judging(prefers_good, silent=("a", "b")) as (_, options):
        given = ("task=judge", *options, f"judge.cache={tmp_path}/judge")
        with pytest.raises(DataError, match=r"no pair in it \(1 rows, 1 identical\)"):
            judge(configure(folder, *given, f"items={tmp_path}/same.jsonl"))
        with pytest.raises(RunError, match=r"no verdict on any pair"):
            judge(configure(folder, *given, f"items={tmp_path}/ok.jsonl"))


def test_a_model_in_this_process_judges_once_and_then_from_the_cache(configure, encoder, tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    tokenizer = encoder.tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
        **heads,
    )
    random_causal_lm(config, seed=0).save_pretrained(tmp_path / "toy")
    tokenizer.save_pretrained(tmp_path / "toy")
    rows = [answered(f"q{i}", ("old", f"{BAD} {i}"), ("new", GOOD * i)) for i in range(1, 7)]
    write_answers(tmp_path / "answers.jsonl", rows)
    given = ("task=judge", f"items={tmp_path / 'answers.jsonl'}", f"judge.model={tmp_path / 'toy'}")
    given += (f"judge.cache={tmp_path}/judge",)
    first = judge(configure(tmp_path / "run", *given))
    again = judge(configure(tmp_path / "again", *given))
    assert first["judge/from_cache"] == first["judge/unscored"] == 0
    assert again["judge/from_cache"] == again["judge/asked"] == 2 * len(rows)
    texts = [(tmp_path / run / "verdicts.jsonl").read_bytes() for run in ("run", "again")]
    assert texts[0] == texts[1]
    read = [json.loads(line) for line in texts[0].splitlines()]
    assert all(0 < row["read_first"] < 1 and 0 < row["read_second"] < 1 for row in read)
    # Of verdicts that are probabilities, those for what is read first.
    places = [row["read_first"] > 0.5 for row in read] + [row["read_second"] < 0.5 for row in read]
    assert first["judge/read_first"] == pytest.approx(sum(places) / len(places))
