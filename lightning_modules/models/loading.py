"""Language models from the hub or a folder, and clear errors where there is none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from lightning_modules.errors import ModelError, OptionError
from lightning_modules.forward.heads import compute_head_in_float32
from lightning_modules.forward.on_cpu.products import use_onednn
from lightning_modules.models.packed import packing
from lightning_modules.models.usable import refuse_files, refuse_kind
from lightning_modules.models.vocabulary import check_vocabulary, forbid_ids_without_text
from lightning_modules.models.weights import load_weights
from lightning_modules.options.paths import model_folder
from lightning_modules.options.remote_code import trusts


@dataclass(frozen=True)
class LoadOptions:
    """How the models of a role are loaded, whatever each of them is.

    `dtype` is that of the weights, `attention` the name of an implementation in Transformers, None
    for the one that it takes by itself. With `head_in_float32` a language model's product with the
    vocabulary is computed in float32, whatever the dtype and autocast. With `packed`, layers are
    held in 4 bits (`packed.py`) that are made on `device`, and compute in `dtype`.
    """

    dtype: torch.dtype = torch.float32
    attention: str | None = None
    head_in_float32: bool = False
    packed: bool = False
    device: str = field(default="cpu", repr=False)  # shapes no result

    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` is told."""
        given = {"dtype": self.dtype} | _attention(self.attention)
        return given | packing(self.dtype, self.device) if self.packed else given


FLOAT32 = LoadOptions()


def _attention(name: str | None) -> dict[str, str]:
    return {} if name is None else {"attn_implementation": name}


def fetch_config(path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The config of a hub model or folder, or a ModelError that says what to do."""
    refuse_files(path)
    with clear_errors(path):
        config = AutoConfig.from_pretrained(
            path, revision=revision or "main", trust_remote_code=trusts(path)
        )
    for part in (config, config.get_text_config()):
        size, pad = getattr(part, "vocab_size", None), getattr(part, "pad_token_id", None)
        if size is not None and pad is not None and not 0 <= pad < size:
            part.pad_token_id = None  # an embedding of no row, which torch refuses
    return config


def _why_not(path: str | Path, error: Exception) -> str:
    local = "to begin with, model=llama or model=gpt2 need no network and no download"
    text = str(error)
    if "gated" in text.lower():
        return (
            f"{path}: this model is gated. Accept its terms on its page on the Hugging Face hub,"
            f" then log in with `hf auth login` or set HF_TOKEN. ({local})"
        )
    if "trust_remote_code" in text or "custom code" in text:
        return (
            f"{path}: this model brings code of its own (auto_map in config.json), which is not"
            f" run; give one that Transformers {transformers.__version__} knows itself or, if you"
            " trust that code, model.trust_remote_code=true"
        )
    if type(error).__name__ == "SafetensorError":
        return (
            f"{path}: a file of weights is damaged or cut short ({first_line(error)}); copy or"
            " download it again"
        )
    if isinstance(error, KeyError):
        return (
            f"{path}: Transformers {transformers.__version__} cannot build what its config.json"
            f" describes: it knows no {first_line(error)}"
        )
    if os.path.isdir(path):
        return f"{path}: not a complete model folder: {first_line(error)}"
    if not _may_be_hub_id(str(path)):
        return f"{path}: no such folder, and not a hub id either. ({local})"
    return (
        f"{path}: cannot be reached on the Hugging Face hub and is not in the local cache: check"
        f" the name, the network and HF_HUB_OFFLINE, or give a local folder in its place. ({local})"
    )


def _may_be_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.isascii()


def check_causal_lm(path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The config of a causal LM; ModelError unless it is one that can be trained and is complete.

    Reads names and shapes of weights, not the weights.
    """
    path = model_folder(path)
    config = fetch_config(path, revision)
    refuse_kind(path, config)
    with clear_errors(path):
        model = load_weights(
            AutoModelForCausalLM, path, config, revision=revision or "main", device_map="meta"
        )
    check_vocabulary(model, path, revision)
    return config


def load_causal_lm(
    path: str | Path, *, revision: str | None = None, how: LoadOptions = FLOAT32
) -> PreTrainedModel:
    """A causal LM from a folder or the hub, in evaluation mode, with every weight from the files.

    Ids that its tokenizer has no token for have probability 0. ModelError if it is no causal LM,
    or if weights are missing.
    """
    path = model_folder(path)
    config = fetch_config(path, revision)
    refuse_kind(path, config)
    with clear_errors(path):
        model = load_weights(
            AutoModelForCausalLM, path, config, revision=revision or "main", **how.arguments()
        )
    forbid_ids_without_text(model, path, revision)
    if how.head_in_float32:
        compute_head_in_float32(model)
    return model.eval()


def random_causal_lm(
    config: PretrainedConfig, seed: int, attention: str | None = None
) -> PreTrainedModel:
    """A causal LM of this config with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, **_attention(attention))
    use_onednn(model)
    return model


def check_attention(
    config: PretrainedConfig, attention: str | None, name: str, auto: Any = AutoModelForCausalLM
) -> None:
    """OptionError unless models of this config, of the kind `auto`, can compute their attention by
    this implementation with what is installed. No weight is read.
    """
    if attention is None:
        return
    try:
        with torch.device("meta"):
            auto.from_config(
                deepcopy(config),
                trust_remote_code=trusts(config.name_or_path),
                **_attention(attention),
            )
    except Exception as error:  # of the package that is not there, or of the architecture
        said = " ".join(str(error).split())
        rule = f"{name} cannot use it here: {said:.300}"
        raise OptionError(f"model.attn_implementation={attention}: {rule}") from error


@contextmanager
def clear_errors(path: str | Path) -> Iterator[None]:
    """What a library says of a model that it cannot load, as a ModelError.

    Any error, since every format of files and every architecture has its own.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_why_not(path, error)) from error


def first_line(error: Exception) -> str:
    """The first line of what an error says, or two where the first one ends with a colon."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 1 + lines[0].endswith(":")])
