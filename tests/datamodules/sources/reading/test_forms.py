"""Rows as other frameworks have them."""

import json
import re

import pytest

from datamodules.records import DataError, Message
from datamodules.sources.files import Files

QUESTION, FIRST, AGAIN = ("Where is it?", "In Agra.", "And who built it?")
GOOD, BAD = "Shah Jahan.", "I do not know."
SHAREGPT = [
    {"from": "human", "value": QUESTION},
    {"from": "gpt", "value": FIRST},
    {"from": "human", "value": AGAIN},
]
CHAT = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": FIRST},
    {"role": "user", "content": AGAIN},
]
TALK = (Message("user", QUESTION), Message("assistant", FIRST), Message("user", AGAIN))


def gpt(text):
    return {"from": "gpt", "value": text}


def assistant(text):
    return {"role": "assistant", "content": text}


PAIRS = {
    "LLaMA-Factory, sharegpt": {
        "conversations": SHAREGPT,
        "chosen": gpt(GOOD),
        "rejected": gpt(BAD),
    },
    "whole ShareGPT conversations": {
        "chosen": [*SHAREGPT, gpt(GOOD)],
        "rejected": [*SHAREGPT, gpt(BAD)],
    },
    "ShareGPT prompt": {"prompt": SHAREGPT, "chosen": GOOD, "rejected": [gpt(BAD)]},
    "messages": {"messages": CHAT, "chosen": GOOD, "rejected": BAD},
    "messages and one message each": {
        "messages": CHAT,
        "chosen": assistant(GOOD),
        "rejected": assistant(BAD),
    },
    "messages with the chosen response": {
        "messages": [*CHAT, assistant(GOOD)],
        "rejected_response": BAD,
    },
    "whole conversations beside messages": {
        "messages": [*CHAT, assistant(GOOD)],
        "chosen": [*CHAT, assistant(GOOD)],
        "rejected": [*CHAT, assistant(BAD)],
    },
    "OpenAI": {
        "input": {"messages": CHAT, "tools": []},
        "preferred_output": [assistant(GOOD)],
        "non_preferred_output": [assistant(BAD)],
    },
    "LLaMA-Factory, alpaca": {
        "instruction": AGAIN,
        "input": "",
        "history": [[QUESTION, FIRST]],
        "chosen": GOOD,
        "rejected": BAD,
    },
    "LLaMA-Factory, output": {
        "instruction": AGAIN,
        "history": [[QUESTION, FIRST]],
        "output": [GOOD, BAD],
    },
}


def comparisons(folder, *rows, **options):
    path = folder / "a.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    source = Files(path=str(path), **options)
    return [c for split in ("train", "val") for c in source.comparisons(split)]


OTHER = {"prompt": "another", "chosen": "x", "rejected": "y"}


def of_row(folder, row, **options):
    """The comparison of `row`, from a set that has another one as well."""
    (found,) = [c for c in comparisons(folder, row, OTHER) if c.prompt.text != "another"]
    return found


@pytest.mark.parametrize("form", PAIRS)
def test_a_pair_of_any_form_is_the_same_pair(tmp_path, form):
    pair = of_row(tmp_path, PAIRS[form])
    assert pair.prompt.messages == TALK
    assert (pair.chosen, pair.rejected) == (GOOD, BAD)


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"input": None}, {"history": []}])
def test_an_instruction_alone_is_the_prompt(tmp_path, more):
    row = {"instruction": QUESTION, "output": [GOOD, BAD], **more}
    assert of_row(tmp_path, row).prompt.messages == (Message("user", QUESTION),)


def test_an_input_follows_its_instruction(tmp_path):
    row = {"instruction": "Shorten.", "input": "A long text.", "chosen": "A", "rejected": "B"}
    assert of_row(tmp_path, row).prompt.messages == (Message("user", "Shorten.\nA long text."),)


def test_more_than_two_outputs_are_a_ranking(tmp_path):
    row = {"instruction": QUESTION, "output": ["a", "b", "c"]}
    other = {"prompt": "another", "responses": ["a", "b"]}
    found = [c for c in comparisons(tmp_path, row, other) if c.prompt.text != "another"]
    assert [c.responses for c in found] == [("a", "b", "c")]
    assert found[0].ratings[0] > found[0].ratings[1] > found[0].ratings[2]


def test_a_ranking_of_single_messages_is_read(tmp_path):
    row = {"conversations": SHAREGPT, "responses": [gpt(GOOD), gpt(BAD)], "ratings": [1, 2]}
    other = {"prompt": "another", "responses": ["a", "b"], "ratings": [1, 2]}
    (found,) = [c for c in comparisons(tmp_path, row, other) if c.prompt.text != "another"]
    assert found.prompt.messages == TALK
    assert found.responses == (GOOD, BAD)


def test_a_column_that_was_named_is_the_prompt(tmp_path):
    row = {"instruction": "not this", "q": "this", "chosen": "A", "rejected": "B"}
    rows = (row, row | {"q": "that"})
    found = comparisons(tmp_path, *rows, columns={"prompt": "q"})
    assert {c.prompt.text for c in found} == {"this", "that"}
    row = {"conversations": SHAREGPT, "chosen": gpt(GOOD), "rejected": gpt(BAD)}
    rows = (row, row | {"conversations": SHAREGPT[:1]})
    found = comparisons(tmp_path, *rows, columns={"prompt": "conversations"})
    assert TALK in [c.prompt.messages for c in found]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [*SHAREGPT, gpt(GOOD)]},
        {"messages": [*CHAT, assistant(GOOD)], "source": True},
        {"instruction": QUESTION, "input": "", "output": GOOD},
    ],
)
def test_a_response_without_another_is_no_comparison(tmp_path, row):
    with pytest.raises(DataError, match=r"line 1 \(row 1\): has one response to '.*two"):
        comparisons(tmp_path, row, OTHER)


def mapped(folder, row, message):
    """The comparisons that are read once the columns are named as a message advises."""
    columns = dict(re.findall(r"data\.columns\.(\w+)=(\w+)", message))
    path = folder / "mapped.jsonl"
    other = {name: f"other {value}" for name, value in row.items() if isinstance(value, str)}
    path.write_text("\n".join(map(json.dumps, (row, row | other))), encoding="utf-8")
    source = Files(path=str(path), columns=columns, held_out=0.5)
    return [c for split in ("train", "val") for c in source.comparisons(split)]


def test_a_worse_response_of_another_name_is_named(tmp_path):
    row = {"instruction": QUESTION, "output": GOOD, "rejected_response": BAD}
    with pytest.raises(DataError, match=r"'output', 'rejected_response', and neither") as error:
        comparisons(tmp_path, row, row)
    message = str(error.value).replace("<name of the better one>", "output")
    assert (GOOD, BAD) in [(c.chosen, c.rejected) for c in mapped(tmp_path, row, message)]


@pytest.mark.parametrize("name", ["completions", "candidates"])
def test_a_list_of_responses_of_another_name_is_named(tmp_path, name):
    row = {"instruction": QUESTION, name: [GOOD, BAD, FIRST]}
    with pytest.raises(DataError, match=f"data.columns.responses={name}$") as error:
        comparisons(tmp_path, row, row)
    found = mapped(tmp_path, row, str(error.value))
    assert {c.responses for c in found} == {(GOOD, BAD, FIRST)}


def test_completions_with_ratings_are_those_of_a_public_set(tmp_path):
    row = {"instruction": QUESTION, "completions": [{"response": GOOD}, {"response": BAD}]}
    with pytest.raises(DataError, match=r"are read by data=ultrafeedback data\.path=<"):
        comparisons(tmp_path, row, row)


def test_half_of_a_pair_is_told_which_half_is_missing(tmp_path):
    row = {"instruction": QUESTION, "output": GOOD, "rejected": BAD}
    with pytest.raises(DataError, match=r"no column 'chosen'.*data\.columns\.chosen="):
        comparisons(tmp_path, row, row)


def test_a_row_of_nothing_is_empty(tmp_path):
    with pytest.raises(DataError, match=r"line 1.*: the row is empty"):
        comparisons(tmp_path, {}, OTHER)
