"""Files of prompts alone, such as task=generate writes."""

import json

import pytest

from datamodules.limits import fit_limits
from datamodules.records import DataError, Message, Prompt
from datamodules.sources.files import Files
from harness.feedback.answers import Answer, AnsweredPrompt, prompt_id, write_answers

PROMPTS = [
    Prompt.from_text("What is 2 + 3?"),
    Prompt((Message("system", "Be brief."), Message("user", "Name a fruit."))),
    Prompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c"))),
    *(Prompt.from_text(f"Number {i}?") for i in range(7)),
]


@pytest.fixture
def answers(tmp_path):
    said = (Answer("5.", "new", 0, True, 3), Answer("", "old", 0, False, 16))
    write_answers(
        tmp_path / "answers.jsonl", [AnsweredPrompt(prompt_id(p), p, said) for p in PROMPTS]
    )
    return tmp_path / "answers.jsonl"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_answers_are_read_as_the_prompts_that_they_answer(answers, encoder):
    source = Files(path=str(answers), max_response_tokens=16)
    assert source.notes == []
    splits = {split: source.prompts(split) for split in ("train", "val")}
    assert len(splits["val"]) == 1
    assert sorted(map(repr, splits["train"] + splits["val"])) == sorted(map(repr, PROMPTS))
    assert source.feedback("train") == source.demonstrations("train") == []
    assert fit_limits(source, encoder, 128).response.tokens == 16
    with pytest.raises(DataError, match=r"data\.max_response_tokens has no value"):
        fit_limits(Files(path=str(answers)), encoder, 128)
    with pytest.raises(DataError, match="prompts alone"):
        source.require_feedback()


def test_a_prompt_may_stand_under_another_name(tmp_path):
    rows = [{"question": f"{i}?", "system": "Be brief.", "id": i} for i in range(4)]
    path = write(tmp_path / "prompts.jsonl", rows)
    source = Files(path=str(path), columns={"prompt": "question"}, max_response_tokens=8)
    assert source.prompts("train")[0].messages[0] == Message("system", "Be brief.")


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": f"{i}?", "better": "x"} for i in range(3)],  # what a misnamed column leaves
        [{"prompt": f"{i}?", "answers": ["x", "y"]} for i in range(3)],  # a ranking by another name
        [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "d"}],  # a torn pair
        [{"prompt": "d"}, {"prompt": "a", "chosen": "b", "rejected": "c"}],
    ],
)
def test_nothing_else_is_taken_for_a_prompt_alone(tmp_path, rows):
    with pytest.raises(DataError, match=r"line [12]"):
        Files(path=str(write(tmp_path / "rows.jsonl", rows)))
