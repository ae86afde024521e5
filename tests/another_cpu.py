"""`python -m pytest -p tests.another_cpu`: the tests on a CPU that takes all of rounding's freedom.

A sum may come out in any order, by instruction set, threads, shape and place; no CPU at hand shows
them all. Here each element of a matrix product or of a sum is that of one order or of another, by a
pattern of the shape and its place, and what has sums inside it comes out one unit in the last place
up or down. The same operation on tensors of the same shapes still gives the same bits, and what is
exact stays exact. A test that fails here alone asks for more than arithmetic grants.
"""

import threading
from collections.abc import Sequence
from math import prod
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.bmm, aten.mv, aten.dot)
PRODUCTS_AND_SUM = (aten.addmm, aten.baddbmm)
LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # forward/on_cpu/products.py
# Each has sums inside it that cannot be reached from here.
OTHERS = (
    aten._softmax,
    aten._softmax_backward_data,
    aten._log_softmax,
    aten._log_softmax_backward_data,
    aten.logsumexp,
    aten.native_layer_norm,
    aten.native_layer_norm_backward,
    aten._fused_rms_norm,
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    aten.linalg_vector_norm,
    aten._foreach_norm,
    aten.var,
    aten.std,
    aten.embedding_dense_backward,
)


def pattern(shape: Sequence[int], kinds: int, of: Sequence[int]) -> Tensor:
    """0 to kinds - 1 for each place of `shape`, another one for another shape of what is summed."""
    seed = sum(n * (31 + 17 * i) for i, n in enumerate(of))
    places = torch.arange(prod(shape))
    # The upper bits of a multiple of 2^32 over the golden ratio (Knuth) have no period.
    return ((places + seed) * 2654435761 % 2**32 // 2**16 % kinds).view(tuple(shape))


def one_or_other(one: Tensor, other: Tensor, of: Tensor) -> Tensor:
    return torch.where(pattern(one.shape, 2, of.shape).bool(), one, other)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, by one sum over what is multiplied, or by one over either half of it."""
    whole, n = a @ b, a.shape[-1]
    if n < 2 or whole.numel() == 0:
        return whole
    rows = 0 if b.ndim == 1 else -2
    parts = [n // 2, n - n // 2]
    first, second = (x @ y for x, y in zip(a.split(parts, -1), b.split(parts, rows), strict=True))
    return one_or_other(whole, first + second, a)


def total(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """The sum over `dims`, all at once, or one half of the last of them after the other."""
    dims = range(x.ndim) if not dims else [d % x.ndim for d in dims]
    whole = x.sum(tuple(dims), keepdim=keepdim) if x.ndim else x
    long = [d for d in dims if x.shape[d] > 1]
    if not long or x.numel() == 0:
        return whole
    n = x.shape[long[-1]]
    first, second = x.split([n // 2, n - n // 2], long[-1])
    halves = first.sum(tuple(dims), keepdim=keepdim) + second.sum(tuple(dims), keepdim=keepdim)
    return one_or_other(whole, halves, x)


def mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """As `total`."""
    summed = total(x, dims, keepdim)
    return summed / (x.numel() // max(summed.numel(), 1))


def nudged(x: object) -> object:
    """Up or down by a unit in the last place, or as it is; 0, 1 and what is not finite stay."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.numel() == 0:
        return x
    step = (pattern(x.shape, 3, x.shape) - 1) * torch.finfo(x.dtype).eps
    return torch.where((x == 1) | ~x.isfinite(), x, x * (1 + step.to(x.dtype)))


class AnotherCPU(TorchDispatchMode):
    """Operations on floating-point numbers within this context."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation, given = func.overloadpacket, dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            if operation in PRODUCTS:
                return product(*args)
            if operation in PRODUCTS_AND_SUM and not given:
                return args[0] + product(*args[1:])
            if operation is LINEAR:
                a, b, bias = args[:3]
                multiplied = product(a, b.t())
                return multiplied if bias is None else multiplied + bias
            if operation in (aten.sum, aten.mean) and given.keys() <= {"dtype"}:
                x = args[0].to(given.get("dtype") or args[0].dtype)
                return (total if operation is aten.sum else mean)(x, *args[1:])
        found = func(*args, **given)
        return tree_map(nudged, found) if operation in OTHERS else found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    run = threading.Thread.run

    def in_context(self):
        # A mode is its thread's alone, and ranks may be threads.
        with AnotherCPU():
            run(self)

    with AnotherCPU(), mock.patch.object(threading.Thread, "run", in_context):
        return (yield)
