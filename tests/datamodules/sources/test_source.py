import pytest

from datamodules.records import DataError, Demonstration, Message, Preference, Prompt
from datamodules.sources.source import Source

FIRST = Prompt.from_text("first")
SECOND = Prompt((Message("user", "hello"), Message("assistant", "hi"), Message("user", "second")))
HELD_OUT = Prompt.from_text("held out")


class Listed(Source):
    pairs = {  # noqa: RUF012
        "train": [
            Preference(SECOND, "good", "bad"),
            Preference(FIRST, "good", "bad"),
            Preference(SECOND, "good", "worse"),
            Preference(SECOND, "bad", "worse"),
        ],
        "val": [Preference(HELD_OUT, "secret", "hidden")],
    }

    def comparisons(self, split):
        return self.pairs[split]

    def identity(self):
        return {}


def make(**options):
    return Listed(**{"name": "x", "max_prompt_tokens": 8, "max_response_tokens": 8, **options})


def test_demonstrations_are_the_distinct_chosen_responses():
    assert make().demonstrations("train") == [
        Demonstration(SECOND, "good"),
        Demonstration(FIRST, "good"),
        Demonstration(SECOND, "bad"),
    ]


def test_prompts_are_distinct_in_order_of_first_appearance():
    assert make().prompts("train") == [SECOND, FIRST]
    assert make().prompts("val") == [HELD_OUT]


def test_training_texts_hold_every_turn_and_response_once_and_nothing_held_out():
    texts = make().texts()
    assert len(texts) == len(set(texts))
    assert set(texts) == {"first", "hello", "hi", "second", "good", "bad", "worse"}


@pytest.mark.parametrize("option", ["max_prompt_tokens", "max_response_tokens"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_below_one_are_errors(option, value):
    assert getattr(make(**{option: 1}), option) == 1
    with pytest.raises(DataError, match=rf"data\.{option}={value}"):
        make(**{option: value})


def test_a_source_says_what_it_is_and_nothing_of_a_gold_it_does_not_know():
    source = make()
    assert source.name == "x"
    assert source.gold is None
    assert not source.counts
    with pytest.raises(TypeError):
        Source(name="x", max_prompt_tokens=1, max_response_tokens=1)
