"""Casts that are kept: fewer of them, the same numbers, and never those of old weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lightning_modules.forward.mixed_precision import casts_kept

CPU = torch.device("cpu")


def lightnings():
    """Autocast as Lightning's bf16-mixed has it."""
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)


def casts_of(weight: Tensor, work: Callable[[], object]) -> int:
    """How often a tensor of this weight's shape is copied to another dtype while `work` is done."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        work()
    return sum(
        event.count
        for event in seen.key_averages(group_by_input_shape=True)
        if event.key == "aten::copy_" and event.input_shapes[0] == list(weight.shape)
    )


@torch.no_grad()
def test_each_weight_is_cast_once_and_the_results_are_the_same_to_the_bit():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 5, bias=False), torch.randn(3, 8, dtype=torch.bfloat16)

    def kept():
        with casts_kept(CPU):
            return [layer(x) for _ in range(5)]

    with lightnings():
        plain = [layer(x) for _ in range(5)]
        assert all(torch.equal(a, b) for a, b in zip(kept(), plain, strict=True))
        assert casts_of(layer.weight, kept) == 1
        assert casts_of(layer.weight, lambda: [layer(x) for _ in range(5)]) == 5


def test_what_is_trained_between_is_seen():
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    with lightnings():
        for _ in range(3):
            with torch.no_grad(), casts_kept(CPU):
                sampled = layer(x)
            trained = layer(x)
            assert torch.equal(sampled, trained.detach())
            assert not torch.is_autocast_cache_enabled()
            trained.float().square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()


def test_without_autocast_nothing_is_cast():
    layer = nn.Linear(4, 4)
    with casts_kept(CPU):
        assert layer(torch.randn(2, 4)).dtype == torch.float32
