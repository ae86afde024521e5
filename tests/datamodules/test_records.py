import dataclasses

import pytest

from datamodules.records import DataError, Message, Preference, Prompt


def test_a_prompt_from_text_is_one_turn_of_the_user():
    prompt = Prompt.from_text("Why?\n\nReally, why?")
    assert [m.role for m in prompt.messages] == ["user"]
    assert prompt.text == prompt.messages[0].content == "Why?\n\nReally, why?"


def test_text_of_several_turns_shows_who_said_what_in_order():
    turns = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye"))
    text = Prompt(turns).text
    places = [text.index(f"{role}: {content}") for role, content in turns]
    assert places == sorted(places)


def test_equal_records_are_one_key_and_cannot_be_changed():
    prompt, other = Prompt.from_text("a"), Prompt.from_text("b")
    assert len({prompt, Prompt((Message("user", "a"),)), other}) == 2
    pair = Preference(prompt, "x", "y")
    assert pair == Preference(prompt, "x", "y") != Preference(prompt, "y", "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.chosen = "z"


def test_messages_are_what_a_chat_template_takes():
    assert Message("user", "Hi")._asdict() == {"role": "user", "content": "Hi"}


def test_data_errors_are_value_errors():
    assert issubclass(DataError, ValueError)
