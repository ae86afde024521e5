"""What is done to scores: their moments are those of all scores so far, however they came."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.rewards.shaping import ScoreShaping
from tests.properties.drawing import in_parallel, property_of

EQUAL = 1e-9
numbers = st.floats(-100, 100, width=32)
batches = st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=5)
ranked = st.tuples(*[st.lists(st.integers(-9, 9), min_size=1, max_size=4)] * 2)


def alone(x):
    return x


def normaliser(clip=None, penalty=0.0):
    return ScoreShaping(normalise=True, clip=clip, missing_eos_penalty=penalty)


def shaped(shaping, batch, all_reduce=alone):
    x = torch.tensor(batch, dtype=torch.float64)
    return shaping(x, torch.ones(len(x)).bool(), all_reduce)


def normalised(batch, so_far):
    """By numpy, over all scores so far; equal ones have no scale."""
    scale = np.std(so_far) if len(set(so_far)) > 1 else 1.0
    return (np.array(batch) - np.mean(so_far)) / scale


@given(drawn=batches)
@property_of(100)
def test_moments_are_those_of_all_scores_so_far(drawn):
    shaping, so_far = normaliser(), []
    for batch in drawn:
        result = shaped(shaping, batch)
        so_far += batch
        count, mean, squares = shaping.state()
        assert count == len(so_far)
        assert mean == pytest.approx(np.mean(so_far), rel=0, abs=1e-11)
        assert squares == pytest.approx(np.var(so_far) * len(so_far), rel=1e-9, abs=1e-18)
        if len(set(so_far)) == 1 or np.std(so_far) > 1e-3:
            assert result.numpy() == pytest.approx(normalised(batch, so_far), rel=0, abs=EQUAL)


@given(drawn=batches, score=numbers)
@property_of()
def test_equal_scores_are_normalised_to_0(drawn, score):
    shaping = normaliser()
    for batch in drawn:
        assert not shaped(shaping, [score] * len(batch)).any()


@given(first=ranked, second=ranked)
@property_of()
def test_ranks_have_the_moments_of_the_whole(first, second):
    def work(rank):
        shaping = normaliser()
        results = [shaped(shaping, batch[rank.rank], rank.sum) for batch in (first, second)]
        return torch.cat(results), shaping.state()

    one = normaliser()
    # Of each batch in turn, the scores of both ranks.
    alone_first, alone_second = (shaped(one, [*batch[0], *batch[1]]) for batch in (first, second))
    for rank, (result, state) in enumerate(in_parallel(2, work)):
        assert state == pytest.approx(one.state(), rel=1e-12, abs=1e-12)
        own = [
            x.split([len(part) for part in batch])[rank]
            for x, batch in ((alone_first, first), (alone_second, second))
        ]
        assert torch.allclose(result, torch.cat(own), rtol=1e-9, atol=1e-9)


@given(drawn=batches, last=st.lists(numbers, min_size=1, max_size=6))
@property_of()
def test_a_saved_state_goes_on_as_if_unbroken(drawn, last):
    unbroken, resumed = normaliser(), normaliser()
    for batch in drawn:
        shaped(unbroken, batch)
    resumed.load(unbroken.state())
    assert torch.equal(shaped(resumed, last), shaped(unbroken, last))
    assert resumed.state() == unbroken.state()


@given(drawn=batches, clip=st.floats(0.1, 5), penalty=st.floats(0, 5, width=32), stop=st.booleans())
@property_of()
def test_scores_are_clipped_first_and_fined_after(drawn, clip, penalty, stop):
    plain = ScoreShaping(normalise=False, clip=clip, missing_eos_penalty=penalty)
    for batch in drawn:
        x = torch.tensor(batch, dtype=torch.float64)
        stopped = (torch.arange(len(x)) % 2 == 0) ^ stop
        expected = np.clip(batch, -clip, clip) - penalty * (1 - stopped.double().numpy())
        assert plain(x, stopped, alone).numpy() == pytest.approx(expected, rel=0, abs=1e-12)


@given(drawn=batches)
@property_of()
def test_without_options_scores_stay_as_they_are(drawn):
    shaping = ScoreShaping(normalise=False, clip=None, missing_eos_penalty=0.0)
    for batch in drawn:
        assert torch.equal(shaped(shaping, batch), torch.tensor(batch, dtype=torch.float64))
    assert shaping.state() == [0, 0, 0]
