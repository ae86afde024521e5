"""Log-probabilities and entropies without the logits of all tokens.

With a vocabulary of 128,000 the logits of one token take half a megabyte in float32, and autograd
keeps them several times over. Here those of some tokens are made at a time, and, if there are many,
made again in the backward pass; where the head is frozen, as with LoRA, the derivatives by its
states are taken at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_modules.forward.heads import Finish, Float32Linear, finish_of, linear_head
from lightning_modules.forward.on_cpu.products import OneDNNLinear, product, product_of_rows
from lightning_modules.forward.passes import at_least_float32

# Logits that are held at a time, of some tokens at least: what fits into a CPU's caches is faster
# than all at once, a GPU is busy with more. Of no more tokens than that they are made whole.
CHUNK_ON_CPU, CHUNK_ON_GPU = 2**22, 2**24
FEWEST_TOKENS = 128
# Logits that are kept for the backward pass on a CPU, which would take long to make them again.
KEPT_ON_CPU = 2**25
# Below so many tokens a gradient by the weights is added up while it is computed: a faster product
# would gain less than it takes to add it.
ENOUGH_TOKENS = 512

_whole_up_to: int | None = None


@contextmanager
def whole_up_to(logits: int) -> Iterator[None]:
    """Within, more logits than these are made in chunks, and no others; 0: all are."""
    global _whole_up_to
    before, _whole_up_to = _whole_up_to, logits
    try:
        yield
    finally:
        _whole_up_to = before


class ChunkedHead(NamedTuple):
    """A head whose logits are made in chunks: its layer, and what is made of the products."""

    linear: nn.Linear
    finish: Finish


def chunk_tokens(vocabulary: int, device: torch.device) -> int:
    """Of how many tokens logits are held at a time."""
    logits = CHUNK_ON_GPU if device.type == "cuda" else CHUNK_ON_CPU
    return max(FEWEST_TOKENS, logits // vocabulary)


def are_many(tokens: int, vocabulary: int, device: torch.device) -> bool:
    """Whether the logits of so many tokens are made in chunks."""
    if _whole_up_to is None:
        return tokens > chunk_tokens(vocabulary, device)
    return tokens * vocabulary > _whole_up_to


def are_kept(tokens: int, vocabulary: int, device: torch.device) -> bool:
    """Whether logits that are made in chunks are kept for a backward pass that needs them."""
    return device.type == "cpu" and _whole_up_to is None and tokens * vocabulary <= KEPT_ON_CPU


def chunked_head(lm: nn.Module, tokens: int) -> ChunkedHead | None:
    """Of a model whose logits of so many tokens are too many to hold; None: they can be held, or
    must be, since it is not known how they come about.
    """
    linear = linear_head(lm)
    if linear is None or not are_many(tokens, linear.out_features, linear.weight.device):
        return None
    finish = finish_of(lm, linear)
    return None if finish is None else ChunkedHead(linear, finish)


def token_log_probs(
    states: Tensor,
    actions: Tensor,
    head: ChunkedHead,
    temperature: float,
    *,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Of `actions` (N,) after `states` (N, D): log-probabilities, and entropies if asked, (N,).

    The distribution is softmax(finish(W states + b) / temperature), at least in float32.
    """
    linear, finish = head
    dtype = _product_dtype(states, linear)
    fast = (
        isinstance(linear, OneDNNLinear) and dtype == torch.float32 and states.device.type == "cpu"
    )
    how = _How(finish, temperature, dtype, entropy, fast)
    return _LogProbs.apply(states, linear.weight, linear.bias, actions, how)


def _product_dtype(states: Tensor, linear: nn.Linear) -> torch.dtype:
    """In which the linear layer itself would compute."""
    if isinstance(linear, Float32Linear):
        return torch.promote_types(linear.weight.dtype, torch.float32)
    device = states.device.type
    if torch.is_autocast_enabled(device) and linear.weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return linear.weight.dtype


class _How(NamedTuple):
    finish: Finish
    temperature: float
    dtype: torch.dtype  # of the product with the weights
    entropy: bool
    fast: bool  # products by the CPU's faster library

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a b' of matrices (N, K) and (M, K)."""
        return product(a, b) if self.fast and len(a) else a @ b.t()

    def logits(self, products: Tensor) -> Tensor:
        """The sampler's; the products are lost."""
        return self.finish(products).div_(self.temperature)

    def slope(self, logits: Tensor) -> Tensor | float | None:
        """Their derivative by the products; None: 1."""
        if self.finish.cap is not None:
            return self.finish.slope_under_cap(logits * self.temperature).div_(self.temperature)
        ratio = self.finish.factor / self.temperature
        return None if ratio == 1.0 else ratio


class _Head:
    """The head on some states: logits z (N, V) of the sampler, and the way back through them.

    With p the probabilities and H the entropy of a row, and a its action,
    d log p_a / dz = 1_a - p and dH / dz = -p (log p + H).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, how: _How):
        self.weight = weight.to(how.dtype)
        self.bias = bias
        self.how = how

    def logits(self, states: Tensor) -> Tensor:
        states = states.to(self.how.dtype)
        if states.is_cuda and states.dtype in (torch.bfloat16, torch.float16):
            # The sum is in float32: as it is there, it is not rounded.
            products = torch.mm(states, self.weight.t(), out_dtype=torch.float32)
        else:
            products = at_least_float32(self.how.product(states, self.weight))
        if self.bias is not None:
            products += self.bias
        return self.how.logits(products)

    def by_products(
        self,
        logits: Tensor,
        seen: "_Seen",
        of_logprobs: Tensor,
        of_entropies: Tensor | None = None,
    ) -> Tensor:
        """The gradient by the head's products, (N, V), in their dtype; the logits are lost."""
        slope = self.how.slope(logits)
        logprobs = logits.sub_(seen.normaliser[:, None])
        p = logprobs.exp()
        if of_entropies is None:
            gradient = p.mul_(-of_logprobs[:, None])
        else:
            weights = logprobs.add_(seen.entropies[:, None]).mul_(of_entropies[:, None])
            gradient = p.mul_(weights.add_(of_logprobs[:, None]).neg_())
        gradient.scatter_add_(1, seen.actions[:, None], of_logprobs[:, None])
        gradient = gradient if slope is None else gradient.mul_(slope)
        return gradient.to(self.how.dtype)

    def by_states(self, gradient: Tensor) -> Tensor:
        """The gradient by the states, (N, D), from that by the products."""
        return self.how.product(gradient, self.weight.t())

    def add_by_weight(self, to: Tensor, gradient: Tensor, states: Tensor) -> None:
        """Adds the gradient by the weights, (V, D), to `to`."""
        states = states.to(gradient.dtype)
        if self.how.fast and len(states) >= ENOUGH_TOKENS:
            to += product_of_rows(gradient, states)
        elif to.dtype == gradient.dtype:
            to.addmm_(gradient.t(), states)
        else:  # 16 bits
            to += gradient.t() @ states


class _Seen(NamedTuple):
    """Of some tokens, (N,) each."""

    actions: Tensor
    logprobs: Tensor
    entropies: Tensor  # empty if not asked for
    normaliser: Tensor


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        actions: Tensor,
        how: _How,
    ) -> tuple[Tensor, Tensor | None]:
        by_states, *by_head = ctx.needs_input_grad[:3]
        ctx.how, ctx.at_once = how, by_states and not any(by_head)
        needed = (by_states or any(by_head)) and not ctx.at_once
        keeps = needed and are_kept(*states.shape[:1], len(weight), weight.device)
        parts, slopes, kept = [], [], []
        with torch.autocast(states.device.type, enabled=False):
            head = _Head(weight, bias, how)
            for rows in _chunks(states, weight):
                logits = head.logits(states[rows])
                parts.append(_look(logits, actions[rows], entropy=how.entropy))
                if ctx.at_once:
                    slopes.append(_slopes(head, logits, parts[-1], states.dtype))
                elif keeps:
                    kept.append(logits)
        seen = _Seen(*(torch.cat(x) for x in zip(*parts, strict=True)))
        if ctx.at_once:
            ctx.save_for_backward(torch.cat(slopes, dim=1))
        else:
            ctx.save_for_backward(states, weight, bias, *seen, *kept)
        return seen.logprobs, seen.entropies if how.entropy else None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_logprobs: Tensor, of_entropies: Tensor | None) -> tuple[Any, ...]:
        asked = (of_logprobs, of_entropies) if ctx.how.entropy else (of_logprobs,)
        if ctx.at_once:
            (slopes,) = ctx.saved_tensors
            pairs = zip(asked, slopes, strict=True)
            gradient = sum(given.to(slope.dtype)[:, None] * slope for given, slope in pairs)
            return gradient, None, None, None, None
        with torch.autocast(of_logprobs.device.type, enabled=False):
            return *_gradients(ctx, asked), None, None


def _gradients(ctx: Any, asked: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """By states, weight and bias, those that are needed; logits that were not kept are made once
    more.
    """
    states, weight, bias, *rest = ctx.saved_tensors
    seen, kept = _Seen(*rest[: len(_Seen._fields)]), rest[len(_Seen._fields) :]
    head = _Head(weight, bias, ctx.how)
    by_states, by_weight, by_bias = ctx.needs_input_grad[:3]
    to_states = torch.empty_like(states) if by_states else None
    to_weight = torch.zeros_like(weight, dtype=_at_least_float32(weight)) if by_weight else None
    to_bias = torch.zeros_like(bias, dtype=_at_least_float32(bias)) if by_bias else None
    for i, rows in enumerate(_chunks(states, weight)):
        part = _Seen(*(x[rows] if len(x) else x for x in seen))
        logits = kept[i] if kept else head.logits(states[rows])
        gradient = head.by_products(logits, part, *(x[rows] for x in asked))
        if by_states:
            to_states[rows] = head.by_states(gradient).to(states.dtype)
        if by_weight:
            head.add_by_weight(to_weight, gradient, states[rows])
        if by_bias:
            to_bias += gradient.sum(0)
    to_head = (x if x is None else x.to(weight.dtype) for x in (to_weight, to_bias))
    return to_states, *to_head


def _chunks(states: Tensor, weight: Tensor) -> Iterator[slice]:
    """Which tokens' logits are held at a time."""
    size = chunk_tokens(len(weight), weight.device)
    for start in range(0, max(1, len(states)), size):
        yield slice(start, start + size)


def _look(logits: Tensor, actions: Tensor, *, entropy: bool) -> _Seen:
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, actions[:, None]).squeeze(-1) - normaliser
    if not entropy:
        return _Seen(actions, logprobs, logprobs.new_empty(0), normaliser)
    expected = (logits - normaliser[:, None]).exp_().mul_(logits).sum(-1)
    return _Seen(actions, logprobs, normaliser - expected, normaliser)


def _slopes(head: _Head, logits: Tensor, seen: _Seen, dtype: torch.dtype) -> Tensor:
    """Derivatives of log-probabilities and, if asked, entropies by states, (1 or 2, N, D)."""
    one, none = torch.ones_like(seen.logprobs), torch.zeros_like(seen.logprobs)
    asked = [(one, none), (none, one)] if head.how.entropy else [(one,)]
    copies = [logits.clone() for _ in asked[1:]] + [logits]
    gradients = (head.by_products(z, seen, *of) for z, of in zip(copies, asked, strict=True))
    return torch.stack([head.by_states(gradient).to(dtype) for gradient in gradients])


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
