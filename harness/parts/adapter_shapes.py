"""Names and shapes of a LoRA adapter's weights: of one in a folder, and of a new one."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"


def shapes_in(folder: Path) -> dict[str, list[int]] | None:
    """Of the adapter in a folder, as PEFT writes it; None where there is none."""
    if not (folder / WEIGHTS).is_file():
        return None
    with safe_open(folder / WEIGHTS, "pt") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118


def new_shapes(lm: PreTrainedModel, lora: LoraConfig) -> dict[str, list[int]]:
    """Of a new adapter on a model without weights, of no use any more then."""
    with torch.device("meta"):
        state = get_peft_model_state_dict(get_peft_model(lm, lora))
    return {name: list(x.shape) for name, x in state.items()}
