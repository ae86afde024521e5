"""Files of answers: what is written is read again, and what is wrong is named by file and line."""

import json

import pytest

from datamodules.records import DataError, Message, Prompt
from harness.feedback.answers import (
    Answer,
    AnsweredPrompt,
    answers_line,
    keep_whole,
    prompt_id,
    read_answers,
    write_answers,
)

ANSWERS = (
    Answer("Kraków\u2028 </script> \x1b[2J", "old", 0, True, 5),
    Answer("", "old", 1, False, 16),
    Answer("[]", "new", 0, True, 2),
)
PROMPTS = (
    Prompt.from_text("Where?\n"),
    Prompt.from_text('[{"role": "user", "content": "a text that looks like a list"}]'),
    Prompt((Message("system", "Be brief."), Message("user", "Where?\n"))),
    Prompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c"))),
)


def rows():
    return [AnsweredPrompt(prompt_id(p), p, ANSWERS) for p in PROMPTS]


def test_what_is_written_is_read_again(tmp_path):
    write_answers(tmp_path / "answers.jsonl", rows())
    assert read_answers(tmp_path / "answers.jsonl") == rows()
    assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == len(PROMPTS)


def test_an_id_is_that_of_the_conversation():
    assert len({prompt_id(p) for p in PROMPTS}) == len(PROMPTS)
    assert prompt_id(Prompt.from_text("Where?\n")) == prompt_id(PROMPTS[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": None}, "line 2: 'answers' must be a list"),
        ({"answers": []}, "line 2: has no answers"),
        ({"id": 3}, "line 2: 'id' must be text, not 3"),
        ({"prompt": 3}, "line 2: 'prompt' must be text or a list"),
        ({"prompt": [{"role": "cat", "content": "x"}]}, "line 2, column 'prompt', message 1"),
        (
            {"answers": [{"text": "a"}]},
            "line 2, answer 1: 'policy' must be text, and it has 'text'",
        ),
        ({"answers": ["a"]}, "line 2, answer 1: must be an object"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(tmp_path, change, said):
    first, second = map(answers_line, rows()[:2])
    path = tmp_path / "answers.jsonl"
    path.write_text(first + json.dumps(json.loads(second) | change), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_answers(path)
    assert f"{path}, {said}" in str(caught.value)


@pytest.mark.parametrize("left", ["{", "\0\0", "whole but for its end", "another prompt's"])
def test_what_a_kill_has_left_is_kept_as_far_as_it_is_whole(tmp_path, left):
    path = tmp_path / "answers.jsonl"
    lines = [answers_line(row) for row in rows()]
    torn = {"whole but for its end": lines[2][:-1], "another prompt's": lines[3]}.get(left, left)
    path.write_text("".join([*lines[:2], torn]), encoding="utf-8")
    assert keep_whole(path, PROMPTS) == 2
    assert path.read_text(encoding="utf-8") == "".join(lines[:2])
    assert keep_whole(tmp_path / "none.jsonl", PROMPTS) == 0


def test_a_row_that_was_cut_off_is_no_row(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(map(answers_line, rows()))[:-9], encoding="utf-8")
    with pytest.raises(DataError, match="line 4: not valid JSON"):
        read_answers(path)
