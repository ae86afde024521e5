"""Every family of chat templates: what is encoded is what its own template and tokenizer give.

The right values come from `apply_chat_template` and the tokenizer themselves, and from the names of
tokens that families.py holds.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from unittest.mock import patch

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from datamodules.records import DataError, Message, Prompt
from datamodules.tokenization.chat_format import ChatOptions
from datamodules.tokenization.encoder import Encoder
from tests.datamodules.tokenization.families import FAMILIES, WHITE, Family

DATE, LATER = datetime(2024, 2, 29), datetime(2031, 11, 5)
MANY = 9999
ANSWERS = [
    "Paris.",
    " It is far. ",
    "\nA list:\n\n- one\n- two\n",
    "The é of a café, 你好 and 🙂.",
    "  two  spaces",
    " ",
    "",
]
SYSTEM = Message("system", " Be kind.\n\nBe brief. ")
FIRST = (Message("user", "Where is the river?"), Message("assistant", " It is behind the mill.\n"))
SECOND = (Message("user", "\n And the  mill? "), Message("assistant", "Old.\n\nVery old."))
LAST = Message("user", "What is e\u0301, 你好,\n\nor a 🙂?")
THOUGHT = (FIRST[0], Message("assistant", "<think>\nA mill, so: water.\n</think>\n\nIt is there."))
TURNS = {
    "one turn": (FIRST[0],),
    "white space": (Message("user", "\n  Hi,\n\nthere  \n"),),
    "several turns": (*FIRST, *SECOND, LAST),
    "reasoning before": (*THOUGHT, LAST),
}


@pytest.fixture(params=FAMILIES, ids=str)
def family(request) -> Family:
    return request.param


def of_date(family: Family, prompt_tokens: int = MANY, response_tokens: int = MANY, **more):
    options = ChatOptions(arguments=dict(family.arguments), date=more.pop("date", DATE))
    stops = ids_of(family, family.config_stops)
    tokenizer = family.tokenizer()
    return Encoder(tokenizer, prompt_tokens, response_tokens, chat=options, stops=stops, **more)


def ids_of(family: Family, names: Sequence[str]) -> tuple[int, ...]:
    ids = family.tokenizer().convert_tokens_to_ids(list(names))
    assert family.tokenizer().convert_ids_to_tokens(ids) == list(names)
    return tuple(ids)


# --- the plain way ------------------------------------------------------------------------------


class Stopped(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None) -> datetime:
        return DATE


def written(family: Family, messages: Sequence[Message], generation: bool) -> str:
    """What the template itself writes on DATE."""
    with patch.object(chat_template_utils, "datetime", Stopped):
        return family.tokenizer().apply_chat_template(
            [m._asdict() for m in messages],
            tokenize=False,
            add_generation_prompt=generation,
            **family.arguments,
        )


def plain_ids(family: Family, text: str) -> list[int]:
    """The tokenizer's ids of a whole text, with the BOS that the template does not write."""
    ids = family.tokenizer()(text, add_special_tokens=False)["input_ids"]
    return [*ids_of(family, [family.bos] if family.bos else []), *ids]


def plain_prompt(family: Family, messages: Sequence[Message]) -> list[int]:
    return plain_ids(family, written(family, messages, generation=True))


def taught_text(family: Family, messages: Sequence[Message], answer: str) -> tuple[str, str]:
    """The template's own conversation in two texts: before and from where a response begins, up to
    the token that ends the response.
    """
    head = written(family, messages, generation=True)
    full = written(family, [*messages, Message("assistant", answer)], generation=False)
    head = head.removesuffix(family.unwritten)
    assert full.startswith(head)
    rest = full[len(head) :]
    if family.after:
        return head, rest.removesuffix(family.after) + family.stop
    return head, rest[: rest.index(family.stop) + len(family.stop)]


def taught_ids(family: Family, messages: Sequence[Message], answer: str) -> tuple[list, bool]:
    """The ids that follow those of the prompt, and whether a token would reach over both.

    Then it is cut there: what is sampled begins after the prompt's last token, whatever follows.
    """
    head, rest = taught_text(family, messages, answer)
    before, whole = plain_ids(family, head), plain_ids(family, head + rest)
    if whole[: len(before)] == before:
        return whole[len(before) :], False
    return family.tokenizer()(rest, add_special_tokens=False)["input_ids"], True


def readable(family: Family, answer: str) -> str:
    """The answer as its tokens say it, without what the template writes around it."""
    text = family.written(answer)
    return text.lstrip() if family.swallows else text


# --- what ends, what pads -----------------------------------------------------------------------


def test_what_ends_a_response(family):
    encoder = of_date(family)
    assert encoder.stop_ids == tuple(sorted(ids_of(family, sorted(family.stops))))
    assert (encoder.stop_id,) == ids_of(family, [family.stop])
    assert (encoder.pad_id,) == ids_of(family, [family.pad])


def test_the_stops_hold_without_those_of_the_model(family):
    chat = ChatOptions(arguments=dict(family.arguments), date=DATE)
    encoder = Encoder(family.tokenizer(), MANY, MANY, chat=chat)
    ends = {encoder.stop_id, family.tokenizer().eos_token_id}
    assert encoder.stop_ids == tuple(sorted(ends))
    assert (encoder.stop_id,) == ids_of(family, [family.stop])


# --- prompts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS.values(), ids=list(TURNS))
def test_a_prompt_is_that_of_the_template(family, turns):
    assert of_date(family).prompts([Prompt(turns)]) == [plain_prompt(family, turns)]


def test_prompts_do_not_depend_on_their_neighbours(family):
    prompts = [Prompt(turns) for turns in TURNS.values()]
    expected = [plain_prompt(family, turns) for turns in TURNS.values()]
    assert of_date(family).prompts([*prompts, prompts[0]]) == [*expected, expected[0]]


@pytest.mark.parametrize("turns", TURNS.values(), ids=list(TURNS))
def test_a_system_turn_is_that_of_the_template_or_refused(family, turns):
    messages = (SYSTEM, *turns)
    encoder = of_date(family)
    if family.system:
        assert encoder.prompts([Prompt(messages)]) == [plain_prompt(family, messages)]
    else:
        with pytest.raises(DataError, match="system"):
            encoder.prompts([Prompt(messages)])


def test_turns_that_do_not_alternate_are_refused_where_the_template_refuses_them(family):
    messages = (FIRST[0], LAST)
    encoder = of_date(family)
    if family.alternates:
        with pytest.raises(DataError, match="take turns"):
            encoder.prompts([Prompt(messages)])
    else:
        assert encoder.prompts([Prompt(messages)]) == [plain_prompt(family, messages)]


def test_a_bos_is_there_as_often_as_the_template_and_the_tokenizer_put_it(family):
    bos = family.bos or family.tokenizer().bos_token
    if bos is None:
        pytest.skip("no BOS")
    turns = TURNS["several turns"]
    expected = written(family, turns, generation=True).count(bos) + bool(family.bos)
    prompt = of_date(family).prompts([Prompt(turns)])[0]
    (whole,) = of_date(family, renders_responses=True).conversations([Prompt(turns)], ["Yes"])
    (bos_id,) = ids_of(family, [bos])
    assert prompt.count(bos_id) == expected
    if family.bos:
        assert prompt[0] == whole[0] == bos_id not in whole[1:]


@given(text=st.text(max_size=12))
@example(text="\u2581 \ue000 <0x0A>\r\n")
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_any_text_is_encoded_as_the_template_has_it(family, text):
    # Plainly read, the name of a control token would be that token. (Hypothesis tries the strings
    # of our own code.)
    controls = map(str, family.tokenizer().added_tokens_decoder.values())
    assume(not any(token in text for token in controls))
    turns = (Message("user", text), Message("assistant", text), Message("user", f"Hi{text}Hi"))
    encoder = of_date(family)
    assert encoder.prompts([Prompt(turns)]) == [plain_prompt(family, turns)]
    assert encoder.responses([text]) == [taught_ids(family, turns, text)[0]]


# --- responses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_template_writes_answers_as_the_table_says(family, answer):
    """The table against the template: nothing of ours is asked."""
    _, rest = taught_text(family, TURNS["one turn"], answer)
    assert rest == family.lead + family.written(answer) + family.tail + family.stop


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("turns", [TURNS["one turn"], TURNS["several turns"]], ids=["one", "more"])
def test_prompt_and_response_are_the_conversation_of_the_template(family, turns, answer):
    expected, _ = taught_ids(family, turns, answer)
    encoder = of_date(family)
    assert encoder.responses([answer]) == [expected]
    (both,) = encoder.conversations([Prompt(turns)], [answer])
    assert both == plain_prompt(family, turns) + expected
    assert both[-1] == encoder.stop_id


def test_tokens_reach_over_the_end_of_a_prompt_only_where_it_is_known_why(family):
    reached = {a for a in ANSWERS if taught_ids(family, TURNS["one turn"], a)[1]}
    if not family.crosses:
        assert reached == set()
    elif family.crosses == WHITE:
        assert reached
        assert all(family.written(a)[0].isspace() for a in reached)
    else:
        assert "Paris." in reached


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_response_is_read_as_it_was_written(family, answer):
    encoder = of_date(family)
    assert encoder.decode(encoder.responses([answer])[0]) == readable(family, answer)


def test_reasoning_is_taught_as_the_template_writes_it(family):
    for answer, expected in family.thoughts:
        encoder = of_date(family)
        (ids,) = encoder.responses([answer])
        assert ids == taught_ids(family, TURNS["one turn"], answer)[0]
        assert encoder.decode(ids) == expected


@pytest.mark.parametrize("name", ["qwen3", "harmony", "zephyr_of_bytes"])
def test_a_policy_that_leaves_out_the_lead_is_read_all_the_same(name):
    (family,) = (f for f in FAMILIES if f.name == name)
    assert family.lead
    text = f"Paris.{family.stop}"
    ids = family.tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert of_date(family).decode(ids) == "Paris."


@pytest.mark.parametrize("answer", ["Paris.", "It is behind the old mill."])
def test_a_response_that_is_too_long_is_cut_and_does_not_end(family, answer):
    (whole,) = of_date(family).responses([answer])
    for limit in range(1, len(whole) + 2):
        (ids,) = of_date(family, MANY, limit).responses([answer])
        assert ids == whole[:limit]
        assert (ids[-1] in of_date(family).stop_ids) == (limit >= len(whole))


def test_a_response_that_did_not_stop_has_no_end(family):
    encoder = of_date(family)
    (whole,), (ids,) = encoder.responses(["Paris."]), encoder.responses(["Paris."], [False])
    assert ids == whole[: len(ids)]
    assert len(ids) < len(whole)
    assert encoder.decode(ids) == "Paris."


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("turns", [TURNS["one turn"], TURNS["several turns"]], ids=["one", "more"])
def test_a_conversation_that_the_template_writes_is_whole(family, turns, answer):
    text = written(family, [*turns, Message("assistant", answer)], generation=False)
    encoder = of_date(family, renders_responses=True)
    assert encoder.conversations([Prompt(turns)], [answer]) == [plain_ids(family, text)]


# --- special words in contents ------------------------------------------------------------------

HARMLESS = "zqz"


def control_words(family: Family) -> list[str]:
    added = family.tokenizer().added_tokens_decoder.values()
    special = [token.content for token in added if token.special]
    return [word for word in special if word not in family.unsplittable] + list(family.controls)


def spelling(family: Family, word: str) -> tuple[Message, ...]:
    system = [Message("system", f"{word} Obey, {word}")] if family.system else []
    return (
        *system,
        Message("user", f"Say {word} and {word}{word} or x{word}y"),
        Message("assistant", f"{word} is said, {word}"),
        Message("user", f"{word}\n{word} again"),
    )


def test_contents_make_no_control_tokens(family):
    words = control_words(family)
    encoder, control_ids = of_date(family), set(ids_of(family, words))
    rendering = of_date(family, renders_responses=True)
    ways = [
        lambda turns, word: encoder.prompts([Prompt(turns)])[0],
        lambda turns, word: encoder.responses([f"So {word}: {word}{word}"])[0],
        lambda turns, word: encoder.conversations([Prompt(turns)], [f"{word} it is"])[0],
        lambda turns, word: rendering.conversations([Prompt(turns)], [f"So {word} it is"])[0],
    ]
    for word in words:
        for way in ways:
            ids, harmless = (way(spelling(family, w), w) for w in (word, HARMLESS))
            controls = [[i for i in row if i in control_ids] for row in (ids, harmless)]
            assert controls[0] == controls[1], word
            texts = [family.tokenizer().decode(row) for row in (ids, harmless)]
            assert texts[0] == texts[1].replace(HARMLESS, word)


def test_a_word_that_cannot_be_written_as_text_is_unknown_and_nothing_else(family):
    for word in family.unsplittable:
        encoder, tokenizer = of_date(family), family.tokenizer()
        assert word == tokenizer.unk_token
        (ids,) = encoder.responses([f"So {word} \U0001f7e1"], [False])
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        assert special & set(ids) == {tokenizer.unk_token_id}


def test_a_spelled_control_word_is_read_back(family):
    encoder = of_date(family)
    for word in control_words(family):
        answer = f"So {word}: {word}{word}."
        assert encoder.decode(encoder.responses([answer])[0]) == answer


# --- prompts that are too long ------------------------------------------------------------------

LONG = (
    Message("user", "Tell me of the river."),
    Message("assistant", "It is long."),
    Message("user", "How long is it?"),
    Message("assistant", "Very."),
    Message("user", "And what is behind the old mill there?"),
)
BRIEF = Message("system", "Be kind.")


def limited(family: Family, messages: Sequence[Message], limit: int) -> list[int] | str:
    """The ids of a prompt within `limit`, or the message that says why there are none."""
    try:
        return of_date(family, limit).prompts([Prompt(tuple(messages))])[0]
    except DataError as error:
        return str(error)


def whole_turns(family: Family, messages: Sequence[Message]) -> list[list[int]]:
    """The prompt, and the same without the earliest exchange, without the two earliest, ..."""
    lead = [m for m in messages if m.role == "system"]
    turns = messages[len(lead) :]
    return [plain_prompt(family, [*lead, *turns[i:]]) for i in range(0, len(turns), 2)]


def last_text_cut(family: Family, messages: Sequence[Message]) -> list[list[int]]:
    """The last turn alone (after the system's), with ever less of the beginning of its text."""
    lead, last = [m for m in messages if m.role == "system"], messages[-1].content
    return [
        plain_prompt(family, [*lead, Message("user", last[i:])]) for i in range(1, len(last) + 1)
    ]


@pytest.mark.parametrize("with_system", [False, True])
def test_truncation_at_every_limit(family, with_system):
    if with_system and not family.system:
        pytest.skip("no system turn")
    messages = (BRIEF, *LONG) if with_system else LONG
    whole, cut = whole_turns(family, messages), last_text_cut(family, messages)
    results = {n: limited(family, messages, n) for n in range(1, len(whole[0]) + 1)}
    smallest = min(n for n, result in results.items() if not isinstance(result, str))
    # Where the last word still fits, nothing is refused; not even an empty text fits below.
    assert min(map(len, cut)) <= smallest <= len(cut[-len("there?")])
    for limit, result in results.items():
        if limit < smallest:
            assert isinstance(result, str), limit
            assert str(smallest) in re.findall(r"\d+", result)
        elif fitting := [ids for ids in whole if len(ids) <= limit]:
            assert result == fitting[0], limit
        else:
            assert len(result) <= limit
            best = next(i for i, ids in enumerate(cut) if len(ids) <= limit)
            # Whole words may go, or tokens, or letters: not more than a word beyond what must.
            assert result in cut[best : best + len(" behind") + 1], limit


# --- the clock ----------------------------------------------------------------------------------


def test_the_date_is_that_of_the_run_and_nothing_else_changes(family):
    prompt = Prompt(TURNS["several turns"])
    ids, again, later = (
        of_date(family, date=date).prompts([prompt])[0] for date in (DATE, DATE, LATER)
    )
    assert ids == again
    assert (ids != later) == bool(family.date_format)
    if family.date_format:
        texts = [family.tokenizer().decode(row) for row in (ids, later)]
        days = [date.strftime(family.date_format) for date in (DATE, LATER)]
        assert texts[0].count(days[0]) == 1
        assert texts[1] == texts[0].replace(*days)
