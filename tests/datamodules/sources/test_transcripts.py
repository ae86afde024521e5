"""Dialogues written as one text: what is one, what only looks like it, and where it ends."""

import time

import pytest

from datamodules.records import Message
from datamodules.sources.transcripts import (
    after_turns,
    begun,
    conversation,
    split_transcripts,
    until_next_turn,
)

TALK = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why so?"))
HEAD = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why so?\n\nAssistant:"
CHATML = "<|im_start|>{role}\n{text}<|im_end|>\n"
# How a turn is written, and what asks for the next one.
WRITTEN = {
    "two lines": ({"user": "\n\nHuman: {}", "assistant": "\n\nAssistant: {}"}, "\n\nAssistant:"),
    "one line": ({"user": "\nHuman: {}", "assistant": "\nAssistant: {}"}, "\nAssistant: "),
    "User": ({"user": "User: {}\n", "assistant": "Bot: {}\n"}, "Bot:"),
    "USER": ({"user": "USER: {}\n", "assistant": "ASSISTANT: {}\n"}, "ASSISTANT:"),
    "sections": ({"user": "### Human: {}\n", "assistant": "### Assistant: {}\n"}, "### Assistant:"),
    "Alpaca": (
        {"user": "### Instruction:\n{}\n\n", "assistant": "### Response:\n{}\n\n"},
        "### Response:\n",
    ),
    "ChatML": (
        {
            "user": "<|im_start|>user\n{}<|im_end|>\n",
            "assistant": "<|im_start|>assistant\n{}<|im_end|>\n",
        },
        "<|im_start|>assistant\n",
    ),
    "headers": (
        {
            "user": "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
            "assistant": "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
        },
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "names": (
        {"user": "<|user|>\n{}</s>\n", "assistant": "<|assistant|>\n{}</s>\n"},
        "<|assistant|>\n",
    ),
    "OASST": (
        {"user": "<|prompter|>{}<|endoftext|>", "assistant": "<|assistant|>{}<|endoftext|>"},
        "<|assistant|>",
    ),
    "Command-R": (
        {
            "user": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
            "assistant": "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
        },
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    "DeepSeek": (
        {
            "user": "<\uff5cUser\uff5c>{}",
            "assistant": "<\uff5cAssistant\uff5c>{}<\uff5cend\u2581of\u2581sentence\uff5c>",
        },
        "<\uff5cAssistant\uff5c>",
    ),
    "harmony": (
        {
            "user": "<|start|>user<|message|>{}<|end|>",
            "assistant": "<|start|>assistant<|channel|>final<|message|>{}<|end|>",
        },
        "<|start|>assistant<|channel|>final<|message|>",
    ),
    "roles": (
        {
            "user": "<|start_of_role|>user<|end_of_role|>{}<|end_of_text|>\n",
            "assistant": "<|start_of_role|>assistant<|end_of_role|>{}<|end_of_text|>\n",
        },
        "<|start_of_role|>assistant<|end_of_role|>",
    ),
    "User, blank lines": (
        {"user": "User: {}\n\n", "assistant": "Assistant: {}\n\n"},
        "Assistant:",
    ),
    "separated": (
        {
            "user": "<|im_start|>user<|im_sep|>{}<|im_end|>",
            "assistant": "<|im_start|>assistant<|im_sep|>{}<|im_end|>",
        },
        "<|im_start|>assistant<|im_sep|>",
    ),
    "turns": (
        {
            "user": "<start_of_turn>user\n{}<end_of_turn>\n",
            "assistant": "<start_of_turn>model\n{}<end_of_turn>\n",
        },
        "<start_of_turn>model\n",
    ),
}


def written(way, *turns, asks=True):
    forms, ask = WRITTEN[way]
    return "".join(forms[m.role].format(m.content) for m in turns) + (ask if asks else "")


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("turns", [TALK, TALK[:1]])
def test_a_transcript_is_read_as_its_turns(way, turns):
    assert conversation(written(way, *turns)) == turns


@pytest.mark.parametrize("way", WRITTEN)
def test_a_transcript_of_several_turns_need_not_ask(way):
    assert conversation(written(way, *TALK, asks=False)) == TALK


@pytest.mark.parametrize("way", WRITTEN)
def test_a_transcript_that_ends_with_the_assistant_is_no_prompt(way):
    assert conversation(written(way, *TALK[:2], asks=False)) is None


def test_what_stands_before_the_first_turn_is_the_system_s():
    turns = conversation("A helper and a human.\n\nHuman: Hi.\n\nAssistant:")
    assert turns == (Message("system", "A helper and a human."), Message("user", "Hi."))
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    turns = conversation(system + written("ChatML", *TALK))
    assert turns == (Message("system", "Be brief."), *TALK)


INSTRUCTIONS = "<s>[INST] {}Hi. [/INST] Hello.</s><s>[INST] Why so? [/INST]"
ON_ONE_LINE = "{}USER: Hi. ASSISTANT: Hello.</s>USER: Why so? ASSISTANT:"


def test_turns_between_tags_or_on_one_line_are_turns():
    assert conversation(INSTRUCTIONS.format("")) == TALK
    assert conversation(ON_ONE_LINE.format("")) == TALK
    brief = (Message("system", "Be brief."), *TALK)
    assert conversation(INSTRUCTIONS.format("<<SYS>>\nBe brief.\n<</SYS>>\n\n")) == brief
    assert conversation(ON_ONE_LINE.format("Be brief. ")) == brief
    tagged = "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT]" + INSTRUCTIONS[3:].format("")
    assert conversation(tagged) == brief
    for text in (INSTRUCTIONS.format(""), ON_ONE_LINE.format("")):
        assert after_turns(f"{text} Because.</s>", TALK) == "Because.</s>"


@pytest.mark.parametrize(
    "text",
    [
        "What do [INST] and [/INST]",
        "[INST] is a tag.",
        "Say what USER: Hi. ASSISTANT:",
        "USER: root",
        "opcode[INST] = 4; [/INST]",
    ],
)
def test_tags_in_a_sentence_are_no_turns(text):
    assert conversation(text) is None
    assert begun(text) is None


@pytest.mark.parametrize(
    "special",
    [
        "<s>",
        "<bos>",
        "<|begin_of_text|>",
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<BOS_TOKEN> ",
    ],
)
@pytest.mark.parametrize("way", WRITTEN)
def test_a_token_before_the_first_turn_is_nobody_s_turn(special, way):
    text = special + written(way, *TALK)
    assert conversation(text) == TALK
    assert after_turns(f"{text} Because.", TALK) == "Because."


@pytest.mark.parametrize("way", WRITTEN)
def test_an_assistant_that_has_begun_to_speak_is_told(way):
    text = written(way, *TALK)
    assert begun(f"{text} Well, I") == "Well, I"
    assert begun(text) is None
    assert conversation(f"{text}\n<think>\n\n</think>\n\n") == TALK
    assert begun("Summarise:\n\nUser: Hi.\nAssistant: Hello.") is None
    assert begun("Human: Hi.\nAssistant: Hello.\nSum this talk up.") is None


@pytest.mark.parametrize("end", ["\n\nAssistant:", "\nAssistant: ", "\n### Response:\n"])
def test_a_question_to_the_assistant_at_the_end_is_dropped(end):
    assert conversation(f"What is a kettle for?{end}") == (
        Message("user", "What is a kettle for?"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "What does Human: mean in this log?",
        "He said: Human: be good. And then Assistant: no.",
        "Human: a being that errs.",
        "### Human rights\nWhat are they?",
        "# Assistant: a job description",
        "Rewrite this:\n\nHuman: Hi.\n\nAssistant: Hello.",
        "Human: Hi.\nAssistant: Hello.\nSum this talk up.",
        "Fill in this form.\nManager:\nAssistant:",
        "Roles:\nSystem:\nAssistant:",
        "Finish the line.\nAI:",
        "User: root\nUser: admin\nAssistant:",
        "What is <|im_start|>user for, and <|assistant|>?",
        "What do </s> <|im_end|> <|eos|> mean?",
        "Customer: Hi.\nAI: Hello.\nCustomer: A phone.",
        "plain",
        "",
    ],
)
def test_a_text_with_such_words_in_it_is_no_transcript(text):
    assert conversation(text) is None


def test_words_that_end_a_turn_elsewhere_stay_in_what_people_say():
    assert conversation("\n\nHuman: What is </s>\n\nAssistant:") == (
        Message("user", "What is </s>"),
    )


@pytest.mark.parametrize("way", WRITTEN)
def test_a_response_ends_where_the_next_turn_begins(way):
    more = written(way, Message("user", "And?"), Message("assistant", "So."), asks=False)
    assert until_next_turn("It is.\n" + more.lstrip("\n")) == "It is."


@pytest.mark.parametrize(
    "rest",
    ["\n\nHuman: And?", "\n\nHuman:", "\n### Human: And?", "<|im_end|>\n<|im_start|>user\nA"],
)
def test_a_turn_that_nobody_answers_ends_a_response_too(rest):
    assert until_next_turn(f"It is.{rest}") == "It is."


@pytest.mark.parametrize(
    "text",
    [
        "Ask yourself what a Human: is.",
        "A list:\n- User: a person\n- Bot: a machine",
        "Log in.\nUser: root\nPassword: secret",
        "Log in.\nUser: root",
        "Here is a dialogue:\n\nHuman: Hi.\n\nAssistant: Hello.",
        "The robot came near.\n\nHuman: Who is it?\n\nRobot: A friend.",
        "Human: Hi.\nAssistant: Hello.",
        "It is:\n```\n\n\nHuman: Hi.\n\nAssistant: Hello.\n```",
        "Put\n```\nx\n\nHuman: Hi.\n\nAssistant: Hello.\n```\nthere.",
        "It is so.\n### Human rights: a list",
        "Its name is <|user|> in this format.",
        "Words such as </s> <|im_end|> <|eos|> are tokens.",
        "It is so.\n\nAssistant: and more",
        "  spaces stay  ",
        "Put\n~~~\n\nHuman: Hi.\n\nAssistant: Hello.\n~~~\nthere.",
        "Put\n````\n```\nUser: a\nAssistant: b\n```\nUser: a\nAssistant: b\n````\nthere.",
        "Put\n\n    Human: Hi.\n\n    Assistant: Hello.\n\nthere.",
        "<pre>\nUser: a\nAssistant: b\n</pre>\nand so on",
        "**Example:**\n\nUser: a\nAssistant: b",
        "*Example*:\n\nUser: a\nAssistant: b",
        "## Example\n\nUser: a\nAssistant: b",
        "**An example**\nUser: a\nAssistant: b",
        "Roles\n\n### User:\nreads\n\n### Admin:\nwrites",
        "Roles\n\n### User:\nreads",
        "A talk\n------\nUser: a\nAssistant: b",
        "A talk:\n\n---\n\nUser: a\nAssistant: b\n\n---",
        "*A talk*\n\nUser: a\nAssistant: b",
        "A talk \u2014\n\nUser: a\nAssistant: b",
        "<details>\nUser: a\nAssistant: b\n</details>",
        "Kinds of error\n\nHuman: mistakes",
        "It wraps what is said in [INST] and [/INST] tags.",
        "So.\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\nand so on.",
        "",
    ],
)
def test_a_response_that_only_looks_like_it_is_left_as_it_is(text):
    assert until_next_turn(text) == text


@pytest.mark.parametrize(
    "rest",
    [
        " [INST] And? [/INST] So.",
        " </s><s>[INST] And? [/INST] So.",
        " USER: And? ASSISTANT: So.",
        "\n\n---\n\nHuman: And?\n\nAssistant: So.",
        "\n<end_of_turn>\n<start_of_turn>user\nAnd?",
        "\n\nHuman: And?\n\nAssistant: See\n```\nx\n```",
        "<|endoftext|><|prompter|>And?<|endoftext|><|assistant|>So.",
    ],
)
def test_turns_in_other_ways_end_a_response(rest):
    assert until_next_turn(f"It is.{rest}").removesuffix("\n\n---") == "It is."
    code = "It is\n```\nUser: a\nAssistant: b\n```\nso."
    assert until_next_turn(code + rest).removesuffix("\n\n---") == code


def test_nothing_is_left_of_a_response_that_begins_with_the_next_turn():
    assert until_next_turn("\n\nHuman: And?\n\nAssistant: So.") == ""


@pytest.mark.parametrize("way", WRITTEN)
def test_a_transcript_of_the_prompt_is_told_from_its_response(way):
    text = written(way, *TALK) + " Because."
    assert after_turns(text, TALK) == "Because."
    assert after_turns(text, TALK[:1]) is None or after_turns(text, TALK[:1]).startswith("Hello.")
    assert after_turns(text, (Message("user", "Other."),)) is None
    assert after_turns("Because.", TALK) is None
    assert after_turns(f"I say: {text}", TALK) is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected", "cut"),
    [
        (" Yes.\n\nHuman: More?\n\nAssistant: More.", " No.", ("Yes.", "No."), 1),
        (" No.", " Yes.\n\nHuman: More?", ("No.", "Yes."), 1),
        (" Yes.\n\nHuman: A?\n\nAssistant: A.", " No.\n\nHuman: B?", ("Yes.", "No."), 2),
        (" Yes.\n\nHuman: A?\n\nAssistant: A.", " Yes.\n\nHuman: B?", ("Yes.", "Yes."), 2),
        (" Yes.  Human: And?", " No.", ("Yes.", "No."), 1),
        ("\n\nHuman: And?", " No.", ("", "No."), 1),
        (" A Human: one.", " No.", ("A Human: one.", "No."), 0),
    ],
)
def test_each_of_two_transcripts_ends_with_its_response(chosen, rejected, expected, cut):
    for start in ("\n\n", ""):  # some copies have no blank line at the beginning
        head = start + HEAD.lstrip()
        turns, *responses, count = split_transcripts(head + chosen, head + rejected)
        assert (turns, tuple(responses), count) == (TALK, expected, cut)


@pytest.mark.parametrize(
    "text",
    ["\n" * 200_000, " \n" * 100_000, "\n\nHuman: a" * 20_000, "</s> " * 50_000, "## " * 60_000],
)
def test_long_texts_take_no_time(text):
    start = time.process_time()
    conversation(text)
    until_next_turn(f"a{text}")
    after_turns(text, TALK)
    assert time.process_time() - start < 5  # 0.2 s; quadratic in the length it is minutes
