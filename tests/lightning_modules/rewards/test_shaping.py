"""What happens to scores before they become rewards, batch after batch."""

import pytest
import torch

from lightning_modules.objectives.masked import one_process
from lightning_modules.rewards.shaping import ScoreShaping
from tests.lightning_modules.objectives.test_masked import on_ranks

BATCHES = [
    torch.tensor([3.0, -1.0, 4.0, 1.5]),
    torch.tensor([-5.0, 9.0]),
    torch.tensor([2.0, 6.0, -5.0, 3.5, 8.0]),
]
ENDED = torch.tensor([True, False, True, False])


def make(**options) -> ScoreShaping:
    return ScoreShaping(**{"normalise": False, "clip": None, "missing_eos_penalty": 0.0, **options})


def shape(shaping, scores, stopped=None, all_reduce=one_process):
    stopped = torch.ones(len(scores), dtype=torch.bool) if stopped is None else stopped
    return shaping(scores, stopped, all_reduce)


def close(actual, expected):
    """The moments are in float64, the scores in float32."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6, check_dtype=False)


def test_by_default_scores_are_left_as_they_are():
    assert torch.equal(shape(make(), BATCHES[0], ENDED), BATCHES[0])


def test_scores_are_normalised_by_all_that_were_seen_these_included():
    shaping = make(normalise=True)
    for i, batch in enumerate(BATCHES):
        seen = torch.cat(BATCHES[: i + 1]).double()
        close(shape(shaping, batch), (batch - seen.mean()) / seen.std(correction=0))


def test_the_moments_do_not_depend_on_how_scores_came_in():
    whole, parts = make(normalise=True), make(normalise=True)
    shape(whole, torch.cat(BATCHES))
    for batch in BATCHES:
        shape(parts, batch)
    assert parts.state() == pytest.approx(whole.state(), rel=1e-13)


def test_a_large_common_offset_loses_no_digits():
    """As sums of squares would: 1e7 squared has no room left for a variance of 10."""
    near, far = make(normalise=True), make(normalise=True)
    for batch in BATCHES:
        close(shape(far, batch.double() + 1e7), shape(near, batch))


def test_on_two_ranks_scores_are_normalised_by_those_of_both():
    one = make(normalise=True)
    expected = [shape(one, batch) for batch in BATCHES]

    def work(rank, all_reduce):
        shaping, done = make(normalise=True), []
        for batch in BATCHES:
            share = batch[: len(batch) // 2] if rank == 0 else batch[len(batch) // 2 :]
            done.append(shape(shaping, share, all_reduce=all_reduce))
        return done

    first, second = on_ranks(work, [(0,), (1,)])
    for a, b, whole in zip(first, second, expected, strict=True):
        close(torch.cat([a, b]), whole)


@pytest.mark.parametrize("scores", [[2.5], [2.5, 2.5, 2.5]])
def test_what_has_no_scale_becomes_0(scores):
    assert shape(make(normalise=True), torch.tensor(scores)).tolist() == [0.0] * len(scores)


def test_scores_are_cut_on_both_sides():
    assert shape(make(clip=2.0), BATCHES[0]).tolist() == [2.0, -1.0, 2.0, 1.5]
    assert shape(make(clip=2.0), -BATCHES[0]).tolist() == [-2.0, 1.0, -2.0, -1.5]


def test_scores_are_cut_after_they_are_normalised():
    expected = shape(make(normalise=True), BATCHES[0]).clamp(-0.7, 0.7)
    assert 0 < int((expected.abs() < 0.7).sum()) < 4
    close(shape(make(normalise=True, clip=0.7), BATCHES[0]), expected)


def test_responses_that_were_cut_off_pay_and_the_others_do_not():
    shaped = shape(make(missing_eos_penalty=1.5), BATCHES[0], ENDED)
    assert (shaped - BATCHES[0]).tolist() == [0.0, -1.5, 0.0, -1.5]


def test_the_penalty_is_neither_cut_nor_scaled():
    options = {"normalise": True, "clip": 0.5}
    fined = shape(make(**options, missing_eos_penalty=3.0), BATCHES[0], ENDED)
    close(fined - shape(make(**options), BATCHES[0]), torch.tensor([0.0, -3.0, 0.0, -3.0]))


def test_the_penalty_does_not_enter_the_moments():
    plain, fined = make(normalise=True), make(normalise=True, missing_eos_penalty=3.0)
    for shaping in (plain, fined):
        shape(shaping, BATCHES[0], ENDED)
    assert fined.state() == plain.state()


def test_from_its_state_it_goes_on_as_if_unbroken():
    unbroken, before, after = (make(normalise=True) for _ in range(3))
    for batch in BATCHES[:2]:
        shape(unbroken, batch)
        shape(before, batch)
    state = before.state()
    assert all(type(number) is float for number in state)
    after.load(state)
    assert torch.equal(shape(after, BATCHES[2]), shape(unbroken, BATCHES[2]))
