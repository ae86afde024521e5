"""Products of float32 matrices on a CPU.

PyTorch has two libraries for them on x86. Linear layers in float32 go to MKL, which leaves AVX-512
unused where the CPU is not Intel's: on an AMD EPYC one thread reaches 100 GFLOP/s by MKL and 160 to
250 by oneDNN, to which PyTorch sends bfloat16 and convolutions. Here float32 goes there too. Both
compute in float32 and round in another order.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

# Parameters of a model below which its layers are left to PyTorch: the figures that are recorded of
# toys are those of its rounding.
FEW_PARAMETERS = 2**20
# Layers with fewer inputs or outputs, such as scalar heads, have nothing to gain.
NARROW = 8


class OneDNNLinear(nn.Linear):
    """A linear layer by the faster library."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight, self.bias)


class OneDNNConv1D(Conv1D):
    """GPT-2's linear layer, whose weights lie the other way round."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight.t(), self.bias)


BY_ONEDNN: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: OneDNNLinear, Conv1D: OneDNNConv1D}


def use_onednn(model: nn.Module) -> None:
    """Have a model's linear layers, adapters included, computed by the faster library, if it is
    there and the model is no toy. Layers of other classes, such as packed ones, stay as they are.
    """
    if not has_onednn() or sum(p.numel() for p in model.parameters()) < FEW_PARAMETERS:
        return
    for module in model.modules():
        if type(module) in BY_ONEDNN and min(module.weight.shape) >= NARROW:
            module.__class__ = BY_ONEDNN[type(module)]


@cache
def has_onednn() -> bool:
    """Whether float32 products of this PyTorch go to MKL, and oneDNN is there to take them."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    # Wherever this is asked first: a skeleton is made on the meta device, a run under autocast.
    x = torch.arange(12.0, dtype=torch.float32, device="cpu").view(3, 4)
    try:
        return torch.equal(product(x, x[:2]), (x[:, None] * x[:2]).sum(-1))
    except (AttributeError, RuntimeError, TypeError):  # the operator is Inductor's, not public
        return False


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: states (..., K) by weights (N, K), plus a bias (N,)."""
    # States with gaps between them, as the last one of each row, make PyTorch copy the weights for
    # every row: those of a head for 32 prompts, 1.8 GB.
    rows = states.reshape(-1, states.shape[-1])
    given = (rows, weight) if bias is None else (rows, weight, bias)
    if not _are_plain(*given) or torch.is_autocast_enabled("cpu"):
        found = F.linear(*given)
    elif torch.is_grad_enabled() and any(x.requires_grad for x in given):
        # What it returns is no view, which nobody could change in place.
        found = _Linear.apply(rows, weight, bias)
    else:
        found = product(*given)
    return found.view(*states.shape[:-1], len(weight))


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b' + bias by oneDNN, of float32 tensors (R, K), (N, K) and (N,), without gradients."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def product_of_rows(a: Tensor, b: Tensor) -> Tensor:
    """a' b by oneDNN, of float32 matrices (R, N) and (R, K), without gradients. The first factor of
    a product is copied where it is transposed: the smaller one.
    """
    if a.shape[1] <= b.shape[1]:
        return product(a.t(), b.t())
    return product(b.t(), a.t()).t().contiguous()


def _are_plain(*tensors: Tensor) -> bool:
    return all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0 for x in tensors
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """On states (R, K)."""
        by_states, by_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(states if by_weight else None, weight if by_states else None)
        return product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        by_states, by_weight, by_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if by_states else None,
            product_of_rows(gradient, states) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )
