"""Frozen layers packed in 4 bits by bitsandbytes, under adapters (Dettmers et al. 2023, QLoRA).

NF4 in blocks of 64 numbers, whose scales are quantised again. Embeddings, norms, biases and heads
keep their 16 or 32 bits, and so does all that is computed.
"""

from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D


def packing(dtype: torch.dtype, device: str) -> dict[str, Any]:
    """What `from_pretrained` is told to pack layers on `device` that compute in `dtype`."""
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": how, "device_map": {"": device}}


def use_one_kernel(model: nn.Module) -> None:
    """Let packed layers compute the same with and without gradients.

    On CPUs with bfloat16 the library packs a layer anew when it is first run without gradients, for
    a kernel that has none: from then on a policy, which is always in evaluation mode, would be
    sampled by other products than it is trained with, and no gradient would pass its layers.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def unpacked(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """`model` with plain layers in the place of packed ones that hold whole weights by now."""
    model.dequantize(dtype)
    _restore_transposed(model)
    return model.eval()


def _restore_transposed(model: PreTrainedModel) -> None:
    """Transformers makes Linear layers of GPT-2's Conv1D, whose weights lie the other way round."""
    with torch.device("meta"):
        as_it_was = type(model)(model.config)
    for name, layer in as_it_was.named_modules():
        if isinstance(layer, Conv1D):
            linear = model.get_submodule(name)
            layer.weight = nn.Parameter(linear.weight.data.T.contiguous(), requires_grad=False)
            layer.bias = linear.bias
            model.set_submodule(name, layer)
