"""One token a row from logits, by a number that was drawn beforehand, and its log-probability."""

from typing import NamedTuple

import torch
from torch import Tensor

# A vocabulary up to this size is summed as a whole, in float64.
WHOLE = 8192
# Of a larger one blocks are summed in float32, which is off by some 1e-7 of a block's probability,
# as its exponentials are; and the sums of blocks in float64.
BLOCK = 128
BELOW_ONE = 1 - 2**-53


class Drawn(NamedTuple):
    """A token a row, (B,), and its log-probability, (B,) float64."""

    tokens: Tensor
    logprobs: Tensor


def sample_tokens(logits: Tensor, temperature: float, uniforms: Tensor) -> Drawn:
    """One token a row from softmax(logits / temperature), by inverting its distribution function.

    `uniforms` (B,) in [0, 1) decide: the same number gives the same token whatever rows are beside
    it, so sampling does not depend on batching. Sums are in float64, whose rounding no sample size
    sees; those of a large vocabulary only over its blocks, at a quarter to an eighth of the time.
    """
    if logits.shape[-1] <= WHOLE or logits.dtype == torch.float64:
        return _from_the_whole(logits, temperature, uniforms)
    return _from_blocks(logits, temperature, uniforms)


def _from_the_whole(logits: Tensor, temperature: float, uniforms: Tensor) -> Drawn:
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    cumulative = probabilities.cumsum(-1)
    # Scaled by the total, which rounding leaves next to 1, so that no uniform falls off the end.
    total = cumulative[:, -1:]
    tokens = _invert(cumulative, uniforms[:, None] * total)
    return Drawn(tokens.squeeze(1), probabilities.gather(1, tokens).log().squeeze(1))


def _from_blocks(logits: Tensor, temperature: float, uniforms: Tensor) -> Drawn:
    """The block first, then the token in it."""
    rows, vocabulary = logits.shape
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    probabilities = torch.softmax(logits, dim=-1)
    if short := -vocabulary % BLOCK:
        probabilities = torch.nn.functional.pad(probabilities, (0, short))
    blocks = probabilities.view(rows, -1, BLOCK)
    sums = blocks.sum(-1).double().cumsum(-1)
    total = sums[:, -1:]
    targets = uniforms[:, None] * total
    block = _invert(sums, targets)
    before = torch.nn.functional.pad(sums, (1, 0)).gather(1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1).double()
    within = inside.cumsum(-1)
    # The block's sum and that of its tokens differ by rounding: past the last is none.
    place = _invert(within, torch.minimum(targets - before, within[:, -1:] * BELOW_ONE))
    logprobs = (inside.gather(1, place) / total).log()
    return Drawn((block * BLOCK + place).squeeze(1), logprobs.squeeze(1))


def _invert(cumulative: Tensor, targets: Tensor) -> Tensor:
    """The first place of each row, (B, 1), whose sum is above its target."""
    found = torch.searchsorted(cumulative, targets, right=True)
    return found.clamp_(max=cumulative.shape[1] - 1)
