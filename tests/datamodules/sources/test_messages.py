"""Chat messages as people write them, and what is wrong in those that cannot be taught."""

import json

import numpy
import pytest

from datamodules.records import DataError, Message
from datamodules.sources.messages import read_messages, unread_keys, written_list

USER = {"role": "user", "content": "Hi."}
CALL = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def text(value):
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi.", "Hi."),
        ([text("Hi"), text(" there.")], "Hi there."),
        ([{"type": "text", "text": "Hi.", "image_url": None}], "Hi."),
        ([{"text": "Hi.", "image": None}], "Hi."),
        (["Hi", " there."], "Hi there."),
        ([], ""),
    ],
)
def test_content_is_text_or_its_parts_joined(content, expected):
    assert read_messages([{"role": "user", "content": content}], "x") == (
        Message("user", expected),
    )


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("human", "user"),
        ("gpt", "assistant"),
        ("bot", "assistant"),
        ("User", "user"),
        ("ASSISTANT", "assistant"),
        ("system", "system"),
    ],
)
def test_names_of_roles_that_mean_the_same_are_read(role, expected):
    said = Message(expected, "Hi.")
    assert read_messages([{"role": role, "content": "Hi."}], "x") == (said,)
    assert read_messages([{"from": role, "value": "Hi."}], "x") == (said,)


@pytest.mark.parametrize("nothing", [{"tool_calls": None}, {"tool_calls": []}, {"name": "Ann"}])
def test_keys_that_say_nothing_of_tools_do_not_matter(nothing):
    assert read_messages([USER | nothing], "x") == (Message("user", "Hi."),)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "content": "", "tool_calls": [CALL]}, ["'tool_calls'", "tools"]),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, ["'tool_calls'"]),
        ({"role": "assistant", "content": "So.", "tool_calls": [CALL]}, ["'tool_calls'"]),
        ({"role": "assistant", "function_call": {"name": "f"}}, ["'function_call'", "tools"]),
        ({"role": "tool", "content": "3"}, ["'tool'", "tools"]),
        ({"role": "function", "content": "3"}, ["'function'", "tools"]),
        ({"role": "developer", "content": "3"}, ["'developer'", "system, user, assistant"]),
        ({"role": "robot", "content": "3"}, ["'robot'", "system, user, assistant"]),
        ({"content": "3"}, ["'role'"]),
        ({"role": "user", "content": None}, ["null", "leave such rows out"]),
        ({"role": "user"}, ["missing"]),
        ({"role": "user", "content": 3}, ["must be text", "3"]),
        ({"role": "user", "content": {"text": "3"}}, ["must be text"]),
        ({"role": "user", "content": [text("a"), {"type": "image"}]}, ["part 2", "'image'"]),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            ["part 1", "'image_url'"],
        ),
        ({"role": "user", "content": [{"image": "x.png"}]}, ["part 1", "'image'"]),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, ["part 1", "text"]),
        ({"role": "user", "content": [3]}, ["part 1", "3"]),
        ("Hi.", ["'role' and 'content'", "'Hi.'"]),
        (None, ["'role' and 'content'"]),
    ],
)
def test_what_is_wrong_in_a_message_is_said_with_its_number(message, words):
    with pytest.raises(DataError) as error:
        read_messages([USER, message], "a.jsonl, line 7")
    told = str(error.value)
    assert told.startswith("a.jsonl, line 7, message 2")
    assert [word for word in words if word not in told] == []


def test_no_messages_are_an_error():
    with pytest.raises(DataError, match="line 7: has no messages"):
        read_messages([], "line 7")


def test_keys_that_are_not_read_are_named():
    assert unread_keys([USER | {"name": "Ann", "weight": 0}, USER | {"thinking": ""}]) == {
        "name",
        "weight",
    }
    assert unread_keys("Hi.") == set()


TALK = [USER, {"content": 'It\'s "so".\nYes}\n {no', "role": "assistant"}]


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        repr,
        lambda talk: f" {json.dumps(talk, indent=1)}\n",
        lambda talk: str(numpy.array(talk, dtype=object)),
        lambda talk: repr(numpy.array(talk, dtype=object)),
    ],
)
def test_messages_that_a_table_has_as_text_are_messages(write):
    for talk in ([USER], TALK, [*TALK, USER]):
        assert written_list(write(talk), "x") == talk


@pytest.mark.parametrize(
    "text", ["Hi.", "[{", "[{}]", '[{"a": 1}]', "[1, 2]", "[]", "[{x: 1}]", '[{"role": 3} or so']
)
def test_other_texts_are_texts(text):
    assert written_list(text, "x") is None


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user'",
        json.dumps(TALK)[:-1],
        json.dumps(TALK)[:-30],
        json.dumps(TALK) + " and more",
        "array([{'content': 'Hi.', 'role': 'user'}, dtype=object)",
        "[{'from': 'human', 'value': 'Hi.'} {'from': 'gpt', 'value': 'Hello.'}]",
        "[{'content': None, 'role' 'user'}]",
    ],
)
def test_a_list_of_messages_that_is_broken_is_an_error_with_its_place(text):
    with pytest.raises(DataError, match=r"^line 3, column 'prompt': begins like a list"):
        written_list(text, "line 3, column 'prompt'")
