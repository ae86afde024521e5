"""Which pairs a judge is asked about, and what is kept of its verdicts."""

import json

from datamodules.records import Prompt
from datamodules.sources.files import Files
from harness.feedback.answers import Answer, AnsweredPrompt, prompt_id
from harness.feedback.pairs import write_pairs
from harness.judging.both_orders import Judged, Pair, columns, in_both_orders
from harness.judging.pairs import labels, pairs_of_answers, verdict_lines
from tests.harness.judging.planted import PlantedJudge
from tests.lightning_modules.judges.asked import judge_at
from tests.lightning_modules.judges.server import serving


def answered(name, *texts):
    prompt = Prompt.from_text(name)
    answers = (Answer(text, policy, 0, True, 3) for policy, text in texts)
    return AnsweredPrompt(prompt_id(prompt), prompt, tuple(answers))


ROWS = [
    answered("q1", ("old", "a"), ("old", "b"), ("new", "c"), ("new", "a ")),
    answered("q2", ("old", "a"), ("new", "a")),
    answered("q3", ("old", "alone")),
]


def test_every_two_answers_that_differ_are_a_pair():
    asked = pairs_of_answers(ROWS, None, None, seed=0)
    texts = [(pair.first, pair.second) for pair in asked.pairs]
    assert texts == [("a", "b"), ("a", "c"), ("b", "c"), ("b", "a "), ("c", "a ")]
    assert asked.pairs[1].origins == ("old", "new")
    assert sum(asked.left_out.values()) == 2  # "a" and "a ", and those of q2
    assert not asked.labelled


def test_some_pairs_of_a_prompt_are_drawn_by_seed_and_prompt_alone():
    few = pairs_of_answers(ROWS, 2, None, seed=0).pairs
    assert len(few) == 2
    assert pairs_of_answers(ROWS[:1], 2, None, seed=0).pairs == few
    draws = {tuple(pairs_of_answers(ROWS, 2, None, seed=seed).pairs) for seed in range(20)}
    assert len(draws) > 3


PAIR = Pair(Prompt.from_text("q"), "one", "two")


def test_labels_are_the_pairs_whose_orders_agree_and_are_read_as_data(tmp_path):
    judged = [
        Judged(PAIR, 1.0, 0.8),
        Judged(Pair(Prompt.from_text("r"), "one", "two"), 0.1, 0.4),
        Judged(PAIR, 0.9, 0.4),
        Judged(PAIR, None, 0.0, "no answer"),
    ]
    found = list(labels(judged, "toy"))
    assert [(x.chosen, x.rejected, x.strength) for x in found] == [
        ("one", "two", 0.8),
        ("two", "one", 0.5),
    ]
    write_pairs(tmp_path / "pairs.jsonl", found)
    source = Files(path=str(tmp_path / "pairs.jsonl"), held_out=0.5)
    read = {r.prompt.text: r for s in ("train", "val") for r in source.preferences(s)}
    assert (read["r"].chosen, read["r"].rejected, read["r"].strength) == ("two", "one", 0.5)
    rows = [json.loads(line) for line in verdict_lines(judged)]
    assert [row["winner"] for row in rows] == ["first", "second", "tie", "unscored"]
    assert rows[3]["why_not"] == "no answer"


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
