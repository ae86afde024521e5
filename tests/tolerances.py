"""How far apart two ways of computing a number may come out, from the roundings behind it.

Sums depend on their order, and the order on the instruction set, the number of threads, the shape
of a batch and a row's place in it. A sum of n terms is off by at most n u Σ|x|, u = eps / 2 (Higham
2002, section 4.2), so two orders of it lie within n eps Σ|x| of each other.

What is the same operation on the same numbers in tensors of the same shape is equal to the bit.
"""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# What whitening multiplies roundings by at most: it divides by the root of a variance + 1e-8.
WHITENING = 1e4


def rounding(dtype: torch.dtype, additions: int, size: float = 1.0) -> float:
    """What two orders of `additions` terms may differ by, the absolute values of which add up to
    `size`.
    """
    return additions * torch.finfo(dtype).eps * size


def of_model(model: nn.Module, ids: Tensor | None = None) -> float:
    """What may differ in anything that a transformer says of sequences such as `ids` (B, S).

    The additions are those of all its layers, one behind the other: the features that each sums,
    and the tokens that attention does. The size is that of the largest number on the way. Signs of
    so many roundings vary, and they add up to the root of their number: what is left of it, a
    factor of some twenty, is for layers that amplify what comes into them.
    """
    config = model.config.get_text_config()
    if ids is None:
        length = min(24, getattr(config, "max_position_embeddings", 24))
        ids = torch.arange(length)[None] % config.vocab_size
    features = [
        layer.weight.shape[0] if isinstance(layer, Conv1D) else layer.in_features
        for layer in model.modules()
        if isinstance(layer, nn.Linear | Conv1D)
    ]
    additions = sum(features) + ids.shape[1] * config.num_hidden_layers
    with torch.no_grad():
        said = model(ids, output_hidden_states=True)
    largest = max(float(x.abs().max()) for x in (said.logits, *said.hidden_states))
    return rounding(said.logits.dtype, additions, largest)
