"""The output head of a language model: how the states that it reads become logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.forward.on_cpu.products import OneDNNLinear
from lightning_modules.forward.passes import at_least_float32, plain

# What configs call a factor of the logits, a divisor, and the bound of a soft cap: Cohere and
# Falcon H1, Granite, Gemma 2.
FACTORS = ("logit_scale", "lm_head_multiplier")
DIVISORS = ("logits_scaling",)
CAP = "final_logit_softcapping"
# Below any logit, and finite: an infinite one would make entropies NaN (0 times infinity).
IMPOSSIBLE = -1e30
# And what is none: of float16 more than a tenth of all that it can hold.
IMPOSSIBLE_FROM = -5e3


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever its weights and autocast say."""

    def forward(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            bias = None if self.bias is None else at_least_float32(self.bias)
            # Without gaps between them (on_cpu/products.py).
            states = at_least_float32(states).contiguous()
            return F.linear(states, at_least_float32(self.weight), bias)


def compute_head_in_float32(lm: nn.Module) -> None:
    """Have the product with the vocabulary computed in float32, in sampling as in training."""
    if head := linear_head(lm):
        head.__class__ = Float32Linear


@dataclass(frozen=True, eq=False)
class Finish:
    """What a model makes of its head's products u: cap tanh(factor u / cap), without a cap
    factor u, and of ids that have no probability, below any logit.
    """

    factor: float = 1.0
    cap: float | None = None
    never: Tensor | None = None  # ids

    def __call__(self, products: Tensor) -> Tensor:
        """The logits; `products` are lost."""
        logits = products if self.factor == 1.0 else products.mul_(self.factor)
        if self.cap is not None:
            logits = logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits if self.never is None else logits.index_fill_(-1, self.never, IMPOSSIBLE)

    def slope_under_cap(self, logits: Tensor) -> Tensor:
        """The derivative of capped logits by the products, from the logits."""
        if self.never is not None:  # of no weight, whatever the slope
            logits = logits.index_fill(-1, self.never, 0.0)
        return (logits / self.cap).square_().neg_().add_(1.0).mul_(self.factor)


_finishes: WeakKeyDictionary[nn.Linear, Finish | None] = WeakKeyDictionary()


def linear_head(lm: nn.Module) -> nn.Linear | None:
    """The linear layer that makes a model's logits; None: it is another, as with LoRA in it."""
    head = getattr(plain(lm), "get_output_embeddings", lambda: None)()
    return head if type(head) in (nn.Linear, OneDNNLinear, Float32Linear) else None


def finish_of(lm: nn.Module, head: nn.Linear) -> Finish | None:
    """What a model makes of its head's products; None: not known. Tried on the model once."""
    if head not in _finishes:
        _finishes[head] = _tried(lm, head)
    return _finishes[head]


@torch.no_grad()
def _tried(lm: nn.Module, head: nn.Linear) -> Finish | None:
    """What the config says, if the model makes the same of products that are given."""
    given = torch.linspace(-60.0, 60.0, head.out_features, device=head.weight.device)
    ids = torch.zeros(1, 2, dtype=torch.long, device=given.device)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    hook = head.register_forward_hook(lambda *_: given.expand(1, 1, -1).clone())
    try:
        finish = _told_by(plain(lm).config)
        logits = lm(**asked, logits_to_keep=ids[0, 1:]).logits.float()[0, 0]
        hook.remove()
        with states_only(head) as seen:
            lm(**asked, logits_to_keep=ids[0, 1:])
    except Exception:  # each architecture has its own
        return None
    finally:
        hook.remove()
    if [tuple(states.shape) for states in seen] != [(1, 1, head.in_features)]:
        return None
    never = (logits < IMPOSSIBLE_FROM).nonzero().squeeze(-1)
    finish = replace(finish, never=never if len(never) else None)
    same = logits.shape == given.shape and torch.allclose(logits, finish(given), 1e-4, 1e-4)
    return finish if same else None


def _told_by(config: Any) -> Finish:
    config = config.get_text_config()
    factor = 1.0
    for name in FACTORS:
        factor *= getattr(config, name, None) or 1.0
    for name in DIVISORS:
        factor /= getattr(config, name, None) or 1.0
    return Finish(float(factor), getattr(config, CAP, None))


@contextmanager
def states_only(head: nn.Linear) -> Iterator[list[Tensor]]:
    """Within, the model makes no logits: what its head would read is put into the list."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(args[0])
        return (args[0][:, :0],)

    hook = head.register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()
