"""The same prompts beside each other, whatever was kept of them."""

import itertools

import pytest

from harness.comparison.answers import LONGEST, PROMPTS, answers
from harness.comparison.document import Asked, Text, to_html, to_markdown
from harness.comparison.grouping import configurations
from harness.comparison.reading import collect
from tests.harness.comparison.synthetic_runs import keep_samples, write_run


@pytest.fixture
def answered(tmp_path):
    """answered(*kept): what is shown of two betas; kept[i] are the samples of run i, two seeds
    each, a row (prompt, answer) or (prompt, answer, iteration).
    """

    def make(*kept, summary=None):
        for i, rows in enumerate(kept):
            run = write_run(
                tmp_path / f"{i}", seed=i % 2, algo__beta=(0.1, 0.2)[i // 2], summary=summary
            )
            for prompt, answer, *iteration in rows:
                row = {"prompt": prompt, "answer": answer, "reference_answer": f"ref {prompt}"}
                keep_samples(run, [row], *iteration)
        return answers(configurations(collect([str(tmp_path)])[0]))

    return make


def shown(blocks) -> dict[str, dict[str, str]]:
    """The answers by prompt and name."""
    asked = [block for block in blocks if isinstance(block, Asked)]
    return {a.prompt: {answer.name: answer.text for answer in a.answers} for a in asked}


def test_prompts_that_all_have_and_the_lowest_seed_that_all_have(answered):
    found = answered(
        [("p", "0.1 of 0"), ("only here", "x")],
        [("p", "0.1 of 1"), ("q", "x")],
        [("q", "x"), ("p", "0.2 of 0")],
        [("p", "0.2 of 1")],
    )
    both = {"algo.beta=0.1": "0.1 of 0", "algo.beta=0.2": "0.2 of 0"}
    assert shown(found) == {"p": {"reference": "ref p"} | both}
    (worth,) = {a.worth for b in found if isinstance(b, Asked) for a in b.answers[1:]}
    assert worth == "score 1.00"


def test_many_prompts_are_spread(answered):
    rows = [(f"p{i}", "x") for i in range(60)]
    found = list(shown(answered(rows, [], rows)))
    assert len(found) == PROMPTS
    places = [int(prompt[1:]) for prompt in found]
    assert {b - a for a, b in itertools.pairwise(places)} == {10}


@pytest.mark.parametrize(("summary", "told"), [({}, "last"), ({"best/iteration": 2}, "early")])
def test_answers_are_those_of_the_policy_that_is_exported(summary, told, answered):
    rows = [("p", "early", 2), ("p", "last", 4)]
    found = answered(rows, [], rows, summary=summary)
    assert shown(found)["p"]["algo.beta=0.1"] == told


def test_nothing_in_common_is_said(answered):
    _, said = answered([("p", "x")], [], [("q", "x")])
    assert said == Text("The configurations have no held-out prompt in common.")


def test_no_samples_are_said_and_one_without_is_named(answered, tmp_path):
    _, said = answered([], [], [])
    assert "No run" in said.text
    keep_samples(tmp_path / "2", [{"prompt": "p", "answer": "x", "reference_answer": "r"}])
    found = answers(configurations(collect([str(tmp_path)])[0]))
    assert "Without samples: algo.beta=0.1" in found[1].text
    assert set(shown(found)["p"]) == {"reference", "algo.beta=0.2"}


def test_different_references_are_told_apart(answered, tmp_path):
    answered([("p", "x")], [], [])
    keep_samples(tmp_path / "2", [{"prompt": "p", "answer": "x", "reference_answer": "other"}])
    named = shown(answers(configurations(collect([str(tmp_path)])[0])))["p"]
    assert named["reference of algo.beta=0.1"] == "ref p"
    assert named["reference of algo.beta=0.2"] == "other"


def test_foreign_texts_are_texts_and_long_ones_are_cut(answered):
    odd = "<script>alert(1)</script>\n| a | b |\n\n# c \x1b[31m"
    found = answered([(odd, "w " * 5000)], [], [(odd, odd)])
    page, text = to_html("t", found), to_markdown("t", found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not any(line.startswith(("# c", "| a |")) for line in text.splitlines())
    assert "\x1b" not in page + text
    longest = max(len(a) for asked in shown(found).values() for a in asked.values())
    assert LONGEST["answer"] - 2 <= longest <= LONGEST["answer"] + 10


@pytest.mark.parametrize(
    "row", [{"prompt": 1}, {"answer": None}, {"score": "high"}, {"gold": 10**400}, {"gold": [1]}]
)
def test_rows_that_are_not_whole_are_none(row, answered, tmp_path):
    answered([], [], [])
    whole = {"prompt": "p", "answer": "x", "reference_answer": "r"}
    for run in ("0", "2"):
        keep_samples(tmp_path / run, [whole | row])
    _, said = answers(configurations(collect([str(tmp_path)])[0]))
    assert "No run" in said.text
