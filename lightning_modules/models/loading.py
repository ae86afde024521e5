"""Language models from the hub or a folder, and clear errors where there is none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from lightning_modules.errors import ModelError


def pretrained_identity(path: str | Path, revision: str | None = None) -> dict[str, Any]:
    """A hub model's id and commit, or the names, sizes and dates of the files of a folder."""
    if Path(path).is_dir():
        files = sorted(p for p in Path(path).iterdir() if p.is_file())
        return {
            "path": str(Path(path).resolve()),
            "files": [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files],
        }
    config = fetch_config(path, revision)
    return {"hub": str(path), "commit": getattr(config, "_commit_hash", None) or revision}


def fetch_config(path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The config of a hub model or folder, or a ModelError that says what to do."""
    try:
        return AutoConfig.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ModelError(_why_not(path, error)) from error


def _why_not(path: str | Path, error: Exception) -> str:
    local = "model=llama or model=gpt2 need no network and no download"
    text = str(error)
    if "gated" in text.lower():
        return (
            f"{path}: this model is gated. Accept its terms on its page on the Hugging Face hub,"
            f" then log in with `hf auth login` or set HF_TOKEN. ({local})"
        )
    if os.path.isdir(path):
        return f"{path}: not a complete model folder: {text.splitlines()[0]}"
    if str(path).startswith((".", "/", "~")) or str(path).count("/") > 1:
        return f"{path}: no such folder, and not a hub id either. ({local})"
    return (
        f"{path}: cannot be reached on the Hugging Face hub and is not in the local cache: check"
        f" the name, the network and HF_HUB_OFFLINE, or give a local folder with"
        f" model.pretrained=<folder>. ({local})"
    )


def load_causal_lm(
    path: str | Path, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A causal LM from a folder or the hub, in evaluation mode."""
    fetch_config(path, revision)
    with clear_errors(path):
        model = AutoModelForCausalLM.from_pretrained(path, revision=revision or "main", dtype=dtype)
    return model.eval()


def random_causal_lm(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A causal LM of this config with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)


@contextmanager
def clear_errors(path: str | Path) -> Iterator[None]:
    """What a library says of a model that it cannot load, as a ModelError."""
    try:
        yield
    except OSError as error:
        raise ModelError(_why_not(path, error)) from error
