"""Reward models: a trained one loaded, never with a fresh head; a new one on a language model."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lightning_modules.errors import ModelError
from lightning_modules.models.loading import clear_errors, fetch_config
from lightning_modules.models.scalar import REWARD_CONFIG


def check_scorer(path: str | Path) -> PretrainedConfig:
    """The config of a reward model; raises ModelError if it is that of something else.

    A reward model has one output. An ensemble of ours has several, and says so.
    """
    config = fetch_config(path)
    kind = ", ".join(config.architectures or ["?"])
    heads = getattr(config, REWARD_CONFIG, {}).get("ensemble", 1)
    if config.num_labels != heads or "SequenceClassification" not in kind:
        raise ModelError(
            f"{path}: not a reward model, which is a sequence-classification model with one output,"
            f" but {kind} with {config.num_labels}"
        )
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    if not hasattr(model, "score"):
        raise ModelError(
            f"{path}: not a reward model that can be used here: {kind} does not read from left to"
            " right, so it has no score at the end of a response"
        )
    return config


def load_scorer(path: str | Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A trained reward model: one whose scalar head is in the folder, never a fresh one."""
    check_scorer(path)
    with clear_errors(path):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=dtype, output_loading_info=True
        )
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ModelError(
            f"{path}: not a trained reward model; these weights are not in it and would be random:"
            f" {missing}"
        )
    return model.eval()


def new_scorer(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    heads: int = 1,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A causal LM's backbone with new scalar heads, N(0, 1/(d+1)) as in Stiennon et al. (2020).

    Each head is drawn by a seed of its own, the first one by `seed`.
    Transformers reads a score at the last token that is not padding, so the padding token must not
    be the stop token: where it is, `tokenizer` gets one of its own, and the embeddings a row.
    """
    fetch_config(path, revision)
    model = AutoModelForSequenceClassification.from_pretrained(
        path, revision=revision or "main", num_labels=heads, dtype=dtype
    )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for i, head in enumerate(model.score.weight):
            torch.manual_seed(seed + 1000 * i)
            head.normal_(std=(model.score.in_features + 1) ** -0.5)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval()
