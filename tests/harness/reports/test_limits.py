"""What is said of limits of tokens: lines for those that are chosen, cautions for what they cut."""

import io
import re

import pytest

from datamodules.limits import fit_limits
from datamodules.records import Preference, Prompt
from harness.reports.limits import say_limits
from harness.reports.plain_console import PlainConsole
from tests.lightning_modules.supervised_parts import Given


def said(limits) -> str:
    out = io.StringIO()
    say_limits(PlainConsole(file=out, width=300), limits)
    return out.getvalue()


@pytest.fixture
def limits_of(encoder):
    """limits_of(prompt, response, positions): of 100 pairs, the longest of 100 words."""
    rows = [
        Preference(Prompt.from_text(f"Where {i} is" + " the" * i), "in" + " the" * i, "is" * i)
        for i in range(1, 101)
    ]

    def limits(prompt=None, response=None, positions=None):
        source = Given(rows)
        source.max_prompt_tokens, source.max_response_tokens = prompt, response
        return fit_limits(source, encoder, positions)

    return limits


def test_chosen_limits_are_said_with_their_options_and_cut_too_little_for_a_caution(limits_of):
    limits = limits_of()
    assert said(limits) == (
        f"limits: prompts {limits.prompt.tokens} tokens (95% of the data), responses"
        f" {limits.response.tokens} tokens (95% of the data); other ones:"
        " data.max_prompt_tokens=, data.max_response_tokens=\n"
    )


def test_given_limits_that_fit_need_no_words(limits_of):
    assert said(limits_of(*limits_of().tokens)) == ""


@pytest.mark.parametrize("what", ["prompt", "response"])
def test_a_caution_names_the_option_and_a_value_after_which_there_is_none(limits_of, what):
    shown = said(limits_of(**{what: 30}))
    share, value = re.search(
        rf"CAUTION: ([\d.]+)% of the {what}s are longer than 30 tokens \(as given\) and are cut;"
        rf" data\.max_{what}_tokens=(\d+) would leave 95% of them whole\n",
        shown,
    ).groups()
    assert float(share) > 50
    assert "CAUTION" not in said(limits_of(**{what: int(value)}))


def test_where_positions_bind_another_model_is_needed(limits_of):
    shown = said(limits_of(positions=64))
    assert "32 tokens (what the model's 64 positions leave)" in shown
    assert shown.count("whole, with a model of more than its 64 positions\n") == 2
