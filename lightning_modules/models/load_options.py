"""How the models of a run are loaded: one answer for each role, whatever the model is."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class LoadOptions:
    """`dtype` is that of the weights, `attention` the name of an implementation in Transformers;
    None: the one that it takes by itself.
    """

    dtype: torch.dtype = torch.float32
    attention: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` is told."""
        return {"dtype": self.dtype} | attention_argument(self.attention)


def attention_argument(attention: str | None) -> dict[str, str]:
    """What Transformers is told of how attention is computed: nothing, where it may choose."""
    return {} if attention is None else {"attn_implementation": attention}


FLOAT32 = LoadOptions()
