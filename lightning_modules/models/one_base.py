"""Reward model and critic as adapters on the policy's weights, where these are the same bytes.

A reward model that was trained with LoRA is its base, an adapter and a head. The policy is on the
same base, so the adapter can be put beside the policy's, and its base need not be held again.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from lightning_modules.forward.packed_parameters import held
from lightning_modules.forward.passes import plain
from lightning_modules.models.adapters import VALUE_ADAPTER, add_value_adapter, put_beside
from lightning_modules.models.loading import fetch_config
from lightning_modules.models.scalar import REWARD_CONFIG, AdapterScalar

REWARD_ADAPTER = "reward"
WEIGHTS, HEAD = "adapter_model.safetensors", "base_model.model.score.weight"
# Of an exported reward model's config: the digest of what its adapter was trained on.
BASE = "base"


def base_digest(model: nn.Module) -> str:
    """A digest of what is below a model's head, without adapters: a policy and a reward model that
    are adapters on the same bytes have the same one.
    """
    parts = [
        (name.replace(".base_layer", ""), parameter)
        for name, parameter in plain(model).base_model.named_parameters()
        if ".lora_" not in name
    ]
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        hashes = threads.map(_hash, (parameter for _, parameter in parts))
    named = zip(parts, hashes, strict=True)
    told = (f"{name} {p.dtype} {tuple(p.shape)} {of_it}" for (name, p), of_it in named)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _hash(parameter: nn.Parameter) -> str:
    digest = hashlib.sha256()
    for tensor in held(parameter):
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def reward_on(lm: PeftModel, folder: Path, *, normalised: bool) -> AdapterScalar | None:
    """The reward model in `folder`, which has its adapter beside it, on the weights of `lm`.

    None where it is anything else than a LoRA adapter and a head on these very weights.
    """
    config, adapter = fetch_config(folder), folder.parent / "adapter"
    about = getattr(config, REWARD_CONFIG, None) or {}
    if about.get(BASE) is None or about[BASE] != base_digest(lm):
        return None
    weights = load_file(adapter / WEIGHTS)
    head = weights.pop(HEAD, None)
    if head is None or any(".lora_" not in name for name in weights):
        return None
    if REWARD_ADAPTER not in lm.peft_config:
        lora = LoraConfig.from_pretrained(adapter)
        lora.task_type, lora.modules_to_save = TaskType.CAUSAL_LM, None
        put_beside(lm, REWARD_ADAPTER, lora, trained=False)
        if set_peft_model_state_dict(lm, weights, adapter_name=REWARD_ADAPTER).unexpected_keys:
            lm.delete_adapter(REWARD_ADAPTER)
            return None
    score = nn.Linear(head.shape[1], head.shape[0], bias=False, dtype=head.dtype)
    score.weight.data = head
    return AdapterScalar(lm, [REWARD_ADAPTER], score, config, normalised=normalised)


def critic_on(
    lm: PeftModel,
    lora: LoraConfig,
    seed: int,
    reward: AdapterScalar | None,
    *,
    normalised: bool = True,
) -> AdapterScalar:
    """A value function on the weights of `lm`: an adapter that is trained, with a head of its own.

    It begins as `reward`, to whose adapter its own is added; else as the reference, with a head
    that values every state 0.
    """
    add_value_adapter(lm, lora, seed)
    if reward is not None:
        head = deepcopy(reward.head).float().requires_grad_(True)
        adapters = [*reward.adapters, VALUE_ADAPTER]
        return AdapterScalar(lm, adapters, head, reward.config, normalised=normalised)
    config = deepcopy(plain(lm).config)
    config.num_labels = 1
    head = nn.Linear(plain(lm).get_output_embeddings().weight.shape[-1], 1, bias=False)
    nn.init.zeros_(head.weight)
    return AdapterScalar(lm, [VALUE_ADAPTER], head, config)
