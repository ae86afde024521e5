"""Limits of tokens that fit the data."""

import dataclasses
import random

import pytest

from datamodules import limits as module
from datamodules.limits import COARSE, MOST, fit_limits
from datamodules.records import Message, Preference, Prompt
from datamodules.sources.source import Source
from datamodules.tokenization.encoder import NO_LIMIT

MEASURED = 200
RNG = random.Random()


@pytest.fixture(autouse=True)
def seeded(monkeypatch):
    """A smaller sample, and texts that do not depend on the tests before."""
    monkeypatch.setattr(module, "MEASURED", MEASURED)
    RNG.seed(1)


class Given(Source):
    def __init__(self, rows, prompt=None, response=None):
        super().__init__(name="given", max_prompt_tokens=prompt, max_response_tokens=response)
        held_out = max(1, len(rows) // 10)
        self.rows = {"train": rows[held_out:], "val": rows[:held_out]}

    def comparisons(self, split):
        return self.rows[split]

    def identity(self):
        return {}


def words(count):
    return " ".join(RNG.choices(["the", "city", "is", "in", "Where"], k=count))


def pairs(count, longest=60):
    """Chosen responses are longer than rejected ones, as people's are."""
    return [
        Preference(
            Prompt.from_text(f"{i} {words(RNG.randrange(1, longest))}"),
            "a " + words(RNG.randrange(longest // 2, longest)),
            words(RNG.randrange(1, longest)),
        )
        for i in range(count)
    ]


def shares_cut(source, encoder, prompt, response):
    """As the stages count them: of prompts, of all responses and of demonstrations."""
    shares = []
    for texts in (
        [
            text
            for split in ("train", "val")
            for c in source.comparisons(split)
            for text in c.responses
        ],
        [d.response for split in ("train", "val") for d in source.demonstrations(split)],
    ):
        counting = encoder.within(prompt, response)
        counting.responses(texts)
        shares.append(counting.counts["responses truncated"] / counting.counts["responses"])
    counting = encoder.within(prompt, response)
    counting.prompts([*source.prompts("train"), *source.prompts("val")])
    return counting.counts["prompts truncated"] / counting.counts["prompts"], max(shares)


@pytest.mark.parametrize("count", [2, 150, 5 * MEASURED])
def test_what_is_chosen_cuts_at_most_a_twentieth_and_little_less_would_cut_more(count, encoder):
    source = Given(pairs(count))
    tokens = fit_limits(source, encoder, None).tokens
    assert max(shares_cut(source, encoder, *tokens)) <= 0.05
    if count == 150:  # a sample's is a little higher, to be sure
        shorter = (n - COARSE for n in tokens)
        assert min(shares_cut(source, encoder, *shorter)) > 0.05


def test_what_is_cut_by_a_given_limit_is_what_the_encoder_cuts(encoder):
    source = Given(pairs(150), prompt=40, response=30)
    limits = fit_limits(source, encoder, None)
    assert limits.tokens == (40, 30)
    assert (limits.prompt.cut, limits.response.cut) == shares_cut(source, encoder, 40, 30)
    open_ones = fit_limits(Given(source.rows["val"] + source.rows["train"]), encoder, None)
    assert (limits.prompt.fits, limits.response.fits) == open_ones.tokens


def test_they_are_the_same_every_time_and_whatever_is_given_besides(encoder):
    rows = pairs(MEASURED + 50)
    limits = fit_limits(Given(rows), encoder, 2000)
    assert limits == fit_limits(Given(list(rows)), encoder, 2000)
    assert limits.response == fit_limits(Given(rows, prompt=9), encoder, 2000).response


def test_rows_in_turns_are_measured_alike(encoder):
    """Long and short ones alternate, as where files are merged: no sample may see one kind."""
    short, long = pairs(MEASURED, longest=8), pairs(MEASURED, longest=60)
    source = Given([row for both in zip(short, long, strict=True) for row in both])
    assert max(shares_cut(source, encoder, *fit_limits(source, encoder, None).tokens)) <= 0.05


@pytest.mark.parametrize("given", [(None, None), (90, None), (None, 90)])
def test_prompt_and_response_fit_the_positions(encoder, given):
    source = Given(pairs(100), *given)
    free = fit_limits(source, encoder, None)
    for positions in (sum(free.tokens) - 1, 100):
        tokens = fit_limits(source, encoder, positions).tokens
        assert sum(tokens) == positions
        for own, chosen in zip(given, tokens, strict=True):
            assert own in (None, chosen)
        assert max(tokens) >= positions // 2
    assert fit_limits(source, encoder, sum(free.tokens)).tokens == free.tokens


def test_where_positions_are_few_the_shorter_of_both_stays_whole(encoder):
    rows = [
        dataclasses.replace(p, prompt=Prompt.from_text(f"{i} ?")) for i, p in enumerate(pairs(50))
    ]
    free = fit_limits(Given(rows), encoder, None)
    assert free.prompt.tokens < 20
    limits = fit_limits(Given(rows), encoder, 50)
    assert limits.prompt.tokens == free.prompt.tokens
    assert limits.response.cut > 0.05


def test_none_is_chosen_that_no_memory_may_hold(encoder):
    source = Given([dataclasses.replace(p, chosen=words(2000)) for p in pairs(4)])
    limits = fit_limits(source, encoder, None)
    assert limits.response.tokens == MOST < limits.response.fits


def test_a_long_system_turn_of_few_prompts_has_room(encoder):
    """It cannot be cut, so that a lower limit would end the run."""
    rows = pairs(100)
    turns = (Message("system", words(200)), Message("user", words(300)))
    rows[50] = dataclasses.replace(rows[50], prompt=Prompt(turns))
    source = Given(rows)
    tokens = fit_limits(source, encoder, None).tokens
    (whole,) = encoder.within(NO_LIMIT, NO_LIMIT).prompts([rows[50].prompt])
    (kept,) = encoder.within(*tokens).prompts([rows[50].prompt])
    assert 200 < len(kept) <= tokens[0] < len(whole)
