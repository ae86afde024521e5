"""Parameters that bitsandbytes holds in 4 bits: what they stand for, and what they take."""

import math
from collections.abc import Iterator

from torch import Tensor


def is_packed(parameter: Tensor) -> bool:
    return getattr(parameter, "quant_state", None) is not None


def numbers(parameter: Tensor) -> int:
    """How many numbers a parameter stands for."""
    return math.prod(parameter.quant_state.shape) if is_packed(parameter) else parameter.numel()


def stands_for(parameter: Tensor) -> Tensor:
    """The numbers of a parameter or buffer; of a packed one in the dtype that it had before."""
    if not is_packed(parameter):
        return parameter.detach()
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(parameter).detach()


def held(parameter: Tensor) -> Iterator[Tensor]:
    """The tensors that a parameter is held in: itself and, where it is packed, scales and codes."""
    yield parameter.data
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        yield from (x for x in (state.absmax, state.code, state.offset) if x is not None)
        state = state.state2
