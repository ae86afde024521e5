"""What goes through a model together, and what happens where it does not fit."""

import gc
import weakref

import pytest
import torch

from lightning_modules.errors import TrainingError
from lightning_modules.rollouts.micro_batches import FEW_TOKENS, MicroBatches, grouped


def lengths(count: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, 30, (count,), generator=generator)
    return prompts, torch.randint(0, 60, (count,), generator=generator)  # 0: without a score


def padded(part: torch.Tensor, prompts: torch.Tensor, responses: torch.Tensor) -> int:
    """Tokens of a part with its padding, of which a response has a slot at least."""
    return len(part) * int(prompts[part].max() + responses[part].max().clamp(min=1))


@pytest.mark.parametrize("tokens", [1, 50, 300, 10_000])
@pytest.mark.parametrize("sequences", [None, 3])
def test_every_row_goes_once_and_within_the_limits(tokens, sequences):
    prompts, responses = lengths()
    parts = grouped(prompts, responses, sequences, tokens)
    assert sorted(row for part in parts for row in part.tolist()) == list(range(40))
    for part in parts:
        assert len(part) <= (sequences or 40)
        assert len(part) == 1 or padded(part, prompts, responses) <= tokens
    if tokens == 1:
        assert len(parts) == 40
    if tokens == 10_000 and sequences is None:
        assert len(parts) == 1


def test_rows_of_similar_length_together_need_less_padding_and_the_longest_come_first():
    prompts, responses = lengths()
    of_length = grouped(prompts, responses, None, 300)
    in_order = torch.arange(40).split(40 // len(of_length))
    cost = [sum(padded(p, prompts, responses) for p in parts) for parts in (of_length, in_order)]
    assert cost[0] < 0.8 * cost[1]
    assert torch.maximum(prompts, responses).argmax() in of_length[0]


def test_without_a_limit_of_tokens_rows_stay_in_their_order():
    parts = grouped(*lengths(), 16, None)
    assert [part.tolist() for part in parts] == [[*range(16)], [*range(16, 32)], [*range(32, 40)]]
    assert [len(part) for part in grouped(*lengths(), None, None)] == [40]


def test_a_limit_that_is_open_begins_with_few_tokens():
    assert MicroBatches(None, "auto").tokens == FEW_TOKENS


class Device:
    """Has room for so many of `units` at a time; remembers what was tried."""

    def __init__(self, limits: MicroBatches, room: int):
        self.limits, self.room, self.tried = limits, room, []

    def step(self) -> str:
        held = torch.zeros(3)
        self.held = weakref.ref(held)
        self.tried.append(self.limits.limits)
        if (self.limits.tokens or self.limits.sequences or 100) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return "done"


@pytest.mark.parametrize(
    ("limits", "tried"),
    [
        ((None, 64), [(None, 64), (None, 32)]),
        ((60, None), [(60, None), (30, None)]),
        ((200, None), [(200, None), (40, None)]),  # of 80 there are
        ((None, None), [(None, None), (40, None)]),
    ],
)
def test_where_memory_runs_out_half_is_tried_and_said(limits, tried):
    micro_batches = MicroBatches(*limits)
    device, said = Device(micro_batches, 40), []
    micro_batches.say = said.append
    assert micro_batches.within_memory(device.step, 80) == "done"
    assert device.tried == tried
    (line,) = said
    assert line.startswith("out of memory: from here on micro-batches hold")
    assert "\n" not in line
    assert micro_batches.within_memory(device.step, 80) == "done"
    assert len(device.tried) == 3


def test_what_the_first_try_held_is_free_in_the_second():
    micro_batches = MicroBatches(None, 64)
    device, alive = Device(micro_batches, 32), []
    micro_batches.say = lambda _: alive.append(device.held() is not None)
    gc.disable()
    try:
        micro_batches.within_memory(device.step, 80)
    finally:
        gc.enable()
    assert alive == [False]


@pytest.mark.parametrize(
    ("limits", "option"), [((None, 64), "algo.micro_batch_tokens"), ((64, None), "_size")]
)
def test_the_second_time_is_an_error_that_says_what_to_lower(limits, option):
    micro_batches = MicroBatches(*limits)
    micro_batches.say = lambda _: None
    device = Device(micro_batches, 10)
    with pytest.raises(TrainingError, match=rf"^out of memory \(CUDA out.*lower .*{option}"):
        micro_batches.within_memory(device.step, 80)
    assert len(device.tried) == 2


def test_rows_of_one_prompt_come_together_and_each_row_once():
    prompts, responses = lengths()
    owners = torch.arange(40) % 10
    prompts = prompts[owners] + 60
    for parts in (
        grouped(prompts, responses, 8, None, owners),
        grouped(prompts, responses, None, 800, owners),
    ):
        assert sorted(row for part in parts for row in part.tolist()) == list(range(40))
        split = sum(len(owners[part].unique()) for part in parts)
        assert split <= 10 + len(parts)  # a prompt is read again only where a part ends


def test_rows_of_similar_length_come_together_where_prompts_are_short():
    """Four long responses and four short ones to prompts of two tokens: nothing is to be gained by
    reading a prompt once that padding would not cost twice.
    """
    owners = torch.arange(4).repeat(2)
    responses = torch.tensor([100] * 4 + [1] * 4)
    parts = grouped(torch.full((8,), 2), responses, None, 408, owners)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    parts = grouped(torch.full((8,), 100), responses, None, 808, owners)
    assert {len(owners[part].unique()) for part in parts} == {2}
