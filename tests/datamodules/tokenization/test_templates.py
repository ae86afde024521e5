"""Which template is used, and what it is told."""

from datetime import datetime

import pytest

from datamodules.records import DataError, Message, Prompt
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from datamodules.tokenization.templates import (
    EMBEDDED_TEMPLATE,
    PLAIN_TEMPLATE,
    ChatOptions,
    ChatTemplate,
    choose_template,
    keep_arguments,
)

QUESTION = Prompt.from_text("Where is it?")
TOLD = "{% if loud is defined and loud %}LOUD {{ names[0] }} {% endif %}" + EMBEDDED_TEMPLATE
CLOCK = "<|system|>It is {{ strftime_now('%d %B %Y, %H:%M') }}." + EMBEDDED_TEMPLATE


@pytest.fixture
def tokenizer(world):
    return train_tokenizer(world.texts(), 400)


def written(tokenizer, **options) -> str:
    encoder = Encoder(tokenizer, 99, 9, chat=ChatOptions(**options))
    return tokenizer.decode(encoder.prompts([QUESTION])[0])


def plainly(tokenizer, **arguments) -> str:
    messages = [m._asdict() for m in QUESTION.messages]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **arguments
    )


def test_a_template_is_told_its_arguments(tokenizer):
    tokenizer.chat_template = TOLD
    arguments = {"loud": True, "names": ["A", "B"]}
    assert written(tokenizer, arguments=arguments) == plainly(tokenizer, **arguments)
    assert written(tokenizer, arguments=arguments).startswith("LOUD A ")
    assert not written(tokenizer).startswith("LOUD")


def test_an_argument_that_the_template_does_not_know_is_refused(tokenizer):
    tokenizer.chat_template = TOLD
    with pytest.raises(DataError, match=r"model.template_arguments.quiet: .* knows loud, names$"):
        written(tokenizer, arguments={"quiet": True})


@pytest.mark.parametrize("value", [True, None, 1.5, 'say "\\é"\n', {"a": [1, None]}])
def test_arguments_stay_with_a_saved_tokenizer_and_can_still_be_overruled(
    tokenizer, tmp_path, value
):
    tokenizer.chat_template = "{{ told | tojson }}" + EMBEDDED_TEMPLATE
    expected = plainly(tokenizer, told=value)
    keep_arguments(tokenizer, {"told": value})
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert plainly(loaded) == expected
    assert plainly(loaded, told="other") == plainly(tokenizer, told="other") != expected
    assert Encoder(loaded, 99, 9).prompts([QUESTION]) == Encoder(
        tokenizer, 99, 9, chat=ChatOptions(arguments={"told": value})
    ).prompts([QUESTION])


def test_the_conversations_that_a_template_refuses_are_told_with_its_words(tokenizer):
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% if 'odd' in messages[-1].content %}{{ raise_exception('odd') }}{% endif %}"
        + EMBEDDED_TEMPLATE
    )
    template = ChatTemplate(tokenizer, ChatOptions())
    told = Prompt((Message("system", "Be brief."), *QUESTION.messages))
    odd = Prompt.from_text("An odd question")
    refused = template.refused([QUESTION, told, odd])
    assert list(refused) == [told, odd]
    assert "(no system)" in refused[told]
    assert "(odd)" in refused[odd]


def test_the_clock_is_that_of_the_run(tokenizer):
    tokenizer.chat_template = CLOCK
    first, second = (written(tokenizer, date=datetime(2024, 2, day)) for day in (28, 29))
    assert "It is 28 February 2024, 00:00." in first
    assert second == first.replace("28", "29")
    assert written(tokenizer, date=datetime(2024, 2, 28)) == first


def test_a_date_matters_to_an_identity_only_where_the_template_asks(tokenizer):
    def identity(day):
        return Encoder(
            tokenizer, 9, 9, chat=ChatOptions(date=datetime(2024, 2, day))
        ).format.identity()

    assert identity(1) == identity(2)
    tokenizer.chat_template = CLOCK
    assert identity(1) != identity(2)


def test_which_template_is_used(tokenizer, tmp_path):
    choose_template(tokenizer, None, "m")
    assert tokenizer.get_chat_template() == EMBEDDED_TEMPLATE
    (tmp_path / "t.jinja").write_text(TOLD, encoding="utf-8")
    choose_template(tokenizer, str(tmp_path / "t.jinja"), "m")
    assert tokenizer.get_chat_template() == TOLD
    tokenizer.chat_template = None
    choose_template(tokenizer, None, "m")
    assert tokenizer.get_chat_template() == PLAIN_TEMPLATE
    tokenizer.chat_template = {"rag": TOLD, "tool_use": CLOCK}
    with pytest.raises(DataError, match=r"^m: has several .*\(rag, tool_use\) and no default"):
        choose_template(tokenizer, None, "m")
    with pytest.raises(DataError, match=r"chat_template=x: no such file.* called rag, tool_use"):
        choose_template(tokenizer, "x", "m")
    choose_template(tokenizer, "tool_use", "m")
    assert tokenizer.get_chat_template() == CLOCK


@pytest.mark.parametrize("text", ["{% if %}", "{{ messages[9].content }}", "{{ nothing.at.all }}"])
def test_a_template_that_cannot_be_used_is_an_error_and_no_traceback(tokenizer, text):
    tokenizer.chat_template = text
    with pytest.raises(DataError, match="the chat template"):
        written(tokenizer)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{ 1 // (messages | length - 1) }}", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% for i in range(999999999) %}{{ i }}{% endfor %}", "OverflowError"),
        ("{{ 'x' * 9999999999999999999 }}", "OverflowError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ 10.0 ** 999 }}", "OverflowError"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
        ("{{ raise_exception('no ' * 5000) }}", "no no"),
    ],
)
def test_whatever_a_template_raises_is_an_error_of_the_template(tokenizer, text, name):
    tokenizer.chat_template = text + EMBEDDED_TEMPLATE
    with pytest.raises(DataError, match=f"the chat template.*{name}") as error:
        written(tokenizer)
    assert len(str(error.value)) < 600


def test_a_template_that_leaves_responses_out_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(DataError, match="leaves out what the assistant says"):
        written(tokenizer)


def test_a_template_may_want_a_system_turn_first(tokenizer):
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('say who you are') }}{% endif %}"
        + EMBEDDED_TEMPLATE
    )
    with pytest.raises(DataError, match="say who you are"):
        written(tokenizer)
    assert Encoder(tokenizer, 9, 99).responses(["Yes"])[0][-1] == tokenizer.eos_token_id
