"""LoRA adapters on a model: added, one put in the place of another, switched off, merged."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    PreTrainedModel,
)

VALUE_ADAPTER = "value"


def plain(model: nn.Module) -> nn.Module:
    """The Hugging Face model; adapters, if any, live in its layers."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextmanager
def adapters_off(lm: PeftModel) -> Iterator[PeftModel]:
    """The model without its adapters: what it was before training."""
    with _kept_trainable(lm), lm.disable_adapter():
        yield lm


@contextmanager
def active_adapter(lm: PeftModel, name: str) -> Iterator[PeftModel]:
    """The model with the adapter `name` in the place of the one that is on."""
    usual = lm.active_adapter
    with _kept_trainable(lm):
        lm.set_adapter(name)
    try:
        yield lm
    finally:
        with _kept_trainable(lm):
            lm.set_adapter(usual)


@contextmanager
def _kept_trainable(lm: nn.Module) -> Iterator[None]:
    """PEFT freezes the adapters that it switches off, and gradients of what was computed before
    would no longer find their parameters; here all stay as they were.
    """
    trained = [p for p in lm.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def adapter_parameters(lm: PeftModel, name: str) -> list[nn.Parameter]:
    """The parameters of one of the model's LoRA adapters."""
    own = re.compile(rf"\.lora_\w+\.{re.escape(name)}(\.|$)")
    return [p for key, p in lm.named_parameters() if own.search(key)]


def add_adapter(model: PreTrainedModel, lora: LoraConfig, task: TaskType, seed: int) -> PeftModel:
    """`model` with LoRA adapters in its layers; all else is frozen.

    For a scorer, PEFT trains the scalar head as well and saves it with the adapter.
    """
    config = deepcopy(lora)
    config.task_type = task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            # PEFT leaves the head in the base's bfloat16, in which small updates are lost.
            parameter.data = parameter.data.float()
    return adapted


def add_value_adapter(model: PeftModel, lora: LoraConfig, seed: int) -> None:
    """A second adapter on the policy's backbone, VALUE_ADAPTER, for a value head to read."""
    usual = model.active_adapter
    config = deepcopy(lora)
    config.task_type = TaskType.CAUSAL_LM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(VALUE_ADAPTER, config)
    for name in (usual, VALUE_ADAPTER):
        for parameter in adapter_parameters(model, name):
            parameter.requires_grad_(True)


def merged(model: nn.Module) -> PreTrainedModel:
    """A plain Hugging Face model with the adapters (if any) folded into a copy of the weights."""
    if isinstance(model, PeftModel):
        return deepcopy(model).merge_and_unload()
    return model
