"""Which pairs a judge is asked about, and what is kept of its verdicts."""

import json
from collections import Counter

from datamodules.records import Prompt
from datamodules.sources.files import Files
from harness.feedback.answers import Answer, AnsweredPrompt, prompt_id, write_answers
from harness.feedback.item_files import read_items
from harness.feedback.pairs import write_rows
from harness.judging.both_orders import Judged, Pair, columns, in_both_orders
from harness.judging.pairs import label_rows, pairs_of_items, verdict_lines
from tests.harness.judging.planted import PlantedJudge
from tests.lightning_modules.judges.asked import judge_at
from tests.lightning_modules.judges.server import serving


def answered(name, *texts):
    prompt = Prompt.from_text(name)
    answers = (Answer(text, policy, 0, True, 3) for policy, text in texts)
    return AnsweredPrompt(prompt_id(prompt), prompt, tuple(answers))


def test_pairs_of_answers_are_those_that_people_would_be_asked_about(tmp_path):
    rows = [
        answered("q1", ("old", "a"), ("new", "b")),
        answered("q2", ("old", "a"), ("new", "a")),
        answered("q3", ("old", "c"), ("new", "d")),
    ]
    write_answers(tmp_path / "answers.jsonl", rows)
    counts = Counter()
    items = read_items(str(tmp_path / "answers.jsonl"), "pair", counts)
    asked = pairs_of_items(items, None, counts)
    assert [(pair.first, pair.second) for pair in asked.pairs] == [("a", "b"), ("c", "d")]
    assert asked.pairs[1].origins == ("old", "new")
    assert asked.left_out["identical"] == 1
    assert not asked.labelled
    assert [pair.first for pair in pairs_of_items(items, 1).pairs] == ["a"]


PAIR = Pair(Prompt.from_text("q"), "one", "two")


def test_labels_are_read_as_data_and_disagreement_of_the_orders_is_a_tie(tmp_path):
    judged = [
        Judged(PAIR, 1.0, 0.8),
        Judged(Pair(Prompt.from_text("r"), "one", "two", ("old", "new")), 0.1, 0.4),
        Judged(Pair(Prompt.from_text("s"), "one", "two"), 0.9, 0.4),
        Judged(PAIR, None, 0.0, "no answer"),
    ]
    rows = list(label_rows(judged, "toy"))
    assert [(x["chosen"], x["rejected"], x["strength"]) for x in rows] == [
        ("one", "two", 0.8),
        ("two", "one", 0.5),
        ("one", "two", 0.0),
    ]
    assert (rows[1]["chosen_policy"], rows[1]["rejected_policy"]) == ("new", "old")
    write_rows(tmp_path / "pairs.jsonl", rows)
    source = Files(path=str(tmp_path / "pairs.jsonl"), held_out=0.5)
    read = {r.prompt.text: r for s in ("train", "val") for r in source.preferences(s)}
    assert (read["r"].chosen, read["r"].rejected, read["r"].strength) == ("two", "one", 0.5)
    assert read.keys() == {"q", "r"}
    assert source.counts["tie"] == 1
    kept = [json.loads(line) for line in verdict_lines(judged)]
    assert [row["winner"] for row in kept] == ["first", "second", "tie", "unscored"]
    assert kept[3]["why_not"] == "no answer"


def test_both_orders_are_asked_and_turned_back(tmp_path):
    """A judge that prefers "one": its verdict is the same wherever that stands."""
    server = PlantedJudge(lambda a, b: a == "one", silent=("nothing",))
    pairs = [PAIR, Pair(PAIR.prompt, "two", "one"), Pair(PAIR.prompt, "nothing", "one")]
    with serving(server.handle) as port:
        judge = judge_at(tmp_path, port)
        told = []
        judged = in_both_orders(judge, pairs, told.append)
        assert told == [3]
        assert [(j.read_first, j.read_second) for j in judged[:2]] == [(1.0, 1.0), (0.0, 0.0)]
        assert judged[2].winner == "unscored"
        assert judged[2].why_not
        both = columns(judged)
        assert both.scored.tolist() == [True, True, False]
        assert both.cluster.tolist() == [0, 0, 0]
        assert both.difference.tolist() == [0, 0, 4]


def test_responses_that_are_the_same_are_a_tie_and_nobody_is_asked(tmp_path):
    server = PlantedJudge(lambda a, b: True)
    with serving(server.handle) as port:
        judged = in_both_orders(judge_at(tmp_path, port), [Pair(PAIR.prompt, "one", "one")])
    assert judged[0].winner == "tie"
    assert not server.bodies
