"""Weights out of files: all that a model has, and no others. What is missing would be random."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import cached_file

from lightning_modules.errors import ModelError
from lightning_modules.forward.on_cpu.products import use_onednn
from lightning_modules.forward.packed_parameters import held
from lightning_modules.models.packed import use_one_kernel
from lightning_modules.options.remote_code import trusts

NAMED = 3
# Numbers beyond which they are not looked at one by one, which takes a second for each 2e9.
LARGE = 4 * 10**9
# What stands before the names of weights that a wrapper has saved in the place of its model.
WRAPPERS = {
    "_orig_mod.": "the model was saved from torch.compile",
    "module.": "the model was saved from DataParallel or DistributedDataParallel",
    "_fsdp_wrapped_module.": "the model was saved from FSDP",
    "pretrained_model.": "the model was saved from TRL's wrapper with a value head",
    "base_model.model.": "the model was saved from PEFT before its adapter was folded in",
}


def tensor_in_files(path: str, key: str) -> Tensor | None:
    """One of the weights in a folder (or a cached hub model) of safetensors; None if it is not
    there.
    """
    name = "model.safetensors"
    if index := _kept_file(path, f"{name}.index.json"):
        with open(index, encoding="utf-8") as file:
            name = json.load(file)["weight_map"].get(key, name)
    file = _kept_file(path, name)
    if file is None:
        return None
    with safe_open(file, "pt") as weights:
        known = key in weights.keys()  # noqa: SIM118 (it is no dictionary)
        return weights.get_tensor(key) if known else None


def _kept_file(path: str, name: str) -> str | None:
    try:
        return cached_file(path, name, local_files_only=True)
    except OSError:
        return None


def load_weights(
    auto: Any,
    path: str | Path,
    config: PretrainedConfig,
    *,
    fresh: Iterable[str] = (),
    unused: Iterable[str] = (),
    **options: Any,
) -> PreTrainedModel:
    """`auto.from_pretrained`; ModelError where weights are missing, left over, of another shape or
    not finite.

    `fresh` names those that may be missing, `unused` those that may be left over. With
    `device_map="meta"` names and shapes are read and no weights, which takes a moment whatever the
    size.
    """
    model, found = auto.from_pretrained(
        path,
        config=config,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=trusts(path),
        **options,
    )
    missing = set(found["missing_keys"]) - set(fresh)
    left_over = set(found["unexpected_keys"]) - set(unused)
    shapes = {name: (tuple(a), tuple(b)) for name, a, b in found["mismatched_keys"]}
    wrong = [
        _told(missing - shapes.keys(), "of the model are not in the files and would be random"),
        _told(left_over, "in the files are not the model's and would be left out"),
        _told(
            {f"{name} {a}, the model's {b}" for name, (a, b) in shapes.items()},
            "in the files have another shape",
        ),
        *map(str, found.get("error_msgs", ())),
    ]
    if any(wrong):
        hint = _hint(missing, left_over, head_names(config))
        raise ModelError(
            f"{path}: these are not the weights that its config describes: "
            + "; ".join(filter(None, wrong))
            + (f". {hint}" if hint else "")
        )
    _refuse_not_finite(path, model)
    use_one_kernel(model)
    use_onednn(model)
    return model


@torch.no_grad()
def _refuse_not_finite(path: str | Path, model: PreTrainedModel) -> None:
    """ModelError where a weight that was read is NaN or infinite.

    The extremes are not finite if any number is not, and finding them makes no copy.
    """
    read = {
        name: [x for x in held(p) if x.is_floating_point() and x.numel()]
        for name, p in model.named_parameters()
        if not p.is_meta
    }
    if sum(x.numel() for parts in read.values() for x in parts) > LARGE:
        return
    broken = [
        name
        for name, parts in read.items()
        if not all(torch.stack(x.aminmax()).isfinite().all() for x in parts)
    ]
    if broken:
        raise ModelError(
            f"{path}: {_told(broken, 'of its weights contain NaN or infinity')}: the training that"
            " they are from has diverged, or they were damaged when they were saved"
        )


def _told(names: Iterable[str], what: str) -> str:
    names = sorted(names)
    shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {what} ({shown})" if names else ""


def head_names(config: PretrainedConfig) -> set[str]:
    """The names of the weights that turn hidden states into logits, in a causal LM's files.

    Families that Transformers renames while it loads them have a name in the files and another one
    in the model: both are among them.
    """
    with torch.device("meta"):
        trusted = trusts(config.name_or_path)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    head = model.get_output_embeddings()
    places = [name for name, module in model.named_modules() if module is head]
    if head is None:
        return set()
    named = {f"{place}.{name}": p for place in places for name, p in head.named_parameters()}
    return {*named, *revert_weight_conversion(model, named)}


def _hint(missing: set[str], left_over: set[str], head: set[str]) -> str:
    """What may have happened to the files, and what to do."""
    if prefix := _prefix(left_over, missing):
        known = WRAPPERS.get(prefix, "the model was saved from within another one")
        return (
            f"The names in the files begin with {prefix!r}: {known}; save the model itself, or take"
            f" {prefix!r} from the names"
        )
    if missing and missing <= head:
        if any(name.startswith("score.") for name in left_over):
            return "It is a reward model or another classifier; a causal LM is needed"
        return (
            "It was saved without its head (from AutoModel); save it from AutoModelForCausalLM, or"
            " set tie_word_embeddings in its config if the head is the embeddings"
        )
    if any(name.startswith("v_head.") for name in left_over):
        return "It was saved with a value head; save the language model alone"
    if any(".lora_" in name for name in left_over):
        return "An adapter is among the weights; fold it in (merge_and_unload) and save again"
    if any(name.startswith("score.") for name in missing):
        return "The head that scores would be random: it is not a trained reward model"
    if layers := _layers(missing):
        return (
            f"Nothing is in the files of layers {layers}: a file is missing, or num_hidden_layers"
            " in config.json is too large"
        )
    if layers := _layers(left_over):
        return f"num_hidden_layers in config.json leaves out layers {layers}"
    return ""


def _prefix(longer: set[str], shorter: set[str]) -> str:
    """What most of the `longer` names have before one of the `shorter`; "" if nothing."""
    found = Counter(
        name[: -len(end)] for name in longer for end in _ends(name) if end in shorter
    ).most_common(1)
    return found[0][0] if found and 2 * found[0][1] >= min(len(longer), len(shorter)) else ""


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]


def _layers(names: set[str]) -> str:
    """The numbers of the layers that most of these weights are in, if most are in layers."""
    found = [m.group(1) for name in names if (m := re.search(r"\.(\d+)\.", name))]
    if 2 * len(found) < len(names):
        return ""
    return ", ".join(sorted(set(found), key=int)[:8])
