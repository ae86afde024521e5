"""Reward models: a trained one loaded, never with a fresh head; a new one on a language model. And
value functions in the same form.
"""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from lightning_modules.errors import ModelError
from lightning_modules.models.loading import FLOAT32, LoadOptions, clear_errors, fetch_config
from lightning_modules.models.scalar import REWARD_CONFIG
from lightning_modules.models.usable import refuse_kind
from lightning_modules.models.vocabulary import check_vocabulary
from lightning_modules.models.weights import head_names, load_weights, tensor_in_files
from lightning_modules.options.paths import model_folder
from lightning_modules.options.remote_code import trusts

FRESH_HEAD = ("score.weight",)
NEW_PADDING = "<|pad|>"
# The byte 0 in vocabularies of bytes, by GPT-2's alphabet and by SentencePiece's.
BYTE_0 = ("\u0100", "<0x00>")


def check_scorer(path: str | Path) -> PretrainedConfig:
    """The config of a reward model; raises ModelError if it is that of something else, or if not
    all its weights are there.

    A reward model has one output. An ensemble of ours has several, and says so.
    """
    path = model_folder(path)
    config = _scorer_config(path)
    check_vocabulary(_load_scorer(path, config, device_map="meta"), path)
    return config


def load_scorer(path: str | Path, *, how: LoadOptions = FLOAT32) -> PreTrainedModel:
    """A trained reward model: one whose scalar head is in the folder, never a fresh one."""
    path = model_folder(path)
    return _load_scorer(path, _scorer_config(path), **how.arguments()).eval()


def _scorer_config(path: str) -> PretrainedConfig:
    config = fetch_config(path)
    kind = ", ".join(config.architectures or ["?"])
    heads = getattr(config, REWARD_CONFIG, {}).get("ensemble", 1)
    if config.num_labels != heads or "SequenceClassification" not in kind:
        raise ModelError(
            f"{path}: not a reward model, which is a sequence-classification model with one output,"
            f" but {kind} with {config.num_labels}"
        )
    if not _has_score(path, config):
        raise ModelError(
            f"{path}: not a reward model that can be used here: {kind} does not read from left to"
            " right, so it has no score at the end of a response"
        )
    refuse_kind(path, config)
    return config


def _has_score(path: str, config: PretrainedConfig) -> bool:
    """Whether the classifier of this family has one layer, `score`, on states at every position."""
    with clear_errors(path), torch.device("meta"):
        auto = AutoModelForSequenceClassification
        scorer = auto.from_config(config, trust_remote_code=trusts(path))
        return hasattr(scorer, "score")


def _load_scorer(path: str, config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    with clear_errors(path):
        unused = head_names(config)
        return load_weights(
            AutoModelForSequenceClassification, path, config, unused=unused, **options
        )


def check_new_scorer(path: str | Path, revision: str | None = None) -> None:
    """ModelError unless a reward model or a critic can be built on this causal LM.

    Reads names and shapes of weights, not the weights.
    """
    path = model_folder(path)
    config = fetch_config(path, revision)
    instead = "use reward=function or reward=checkpoint, and algo.critic=head"
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{path}: Transformers has no sequence-classification model of type"
            f" {config.model_type}, so no reward model and no critic of its own can be built on it;"
            f" {instead}"
        )
    if not _has_score(path, config):
        raise ModelError(
            f"{path}: no reward model and no critic of its own can be built here on a model of type"
            f" {config.model_type}: the classifier that Transformers has for it does not read one"
            f" score at the end of a response; {instead}"
        )
    _load_backbone(path, config, revision, device_map="meta")


def _load_backbone(
    path: str, config: PretrainedConfig, revision: str | None, **options: Any
) -> PreTrainedModel:
    """A causal LM's backbone in a classifier whose head is new."""
    with clear_errors(path):
        return load_weights(
            AutoModelForSequenceClassification,
            path,
            config,
            fresh=FRESH_HEAD,
            unused=head_names(config),
            revision=revision or "main",
            **options,
        )


def new_scorer(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    heads: int = 1,
    revision: str | None = None,
    how: LoadOptions = FLOAT32,
    stop_ids: Iterable[int] = (),
) -> PreTrainedModel:
    """A causal LM's backbone with new scalar heads, drawn by `seed`.

    `tokenizer` gets a padding token that no conversation ends with, if it has none.
    """
    path = model_folder(path)
    check_new_scorer(path, revision)
    config = fetch_config(path, revision)
    config.num_labels = heads
    model = _load_backbone(path, config, revision, **how.arguments())
    draw_heads(model.score, seed)
    choose_padding(tokenizer, model.get_input_embeddings().weight.shape[0], stop_ids)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


@torch.no_grad()
def draw_heads(score: nn.Linear, seed: int) -> None:
    """Scalar heads from N(0, 1/(d+1)) as in Stiennon et al. (2020), each by a seed of its own, the
    first one by `seed`.
    """
    with torch.random.fork_rng(devices=[]):
        for i, head in enumerate(score.weight):
            torch.manual_seed(seed + 1000 * i)
            head.normal_(std=(score.in_features + 1) ** -0.5)


def scorer_on(lm: PreTrainedModel, head: nn.Linear) -> PreTrainedModel | None:
    """A sequence-classification model of a causal LM's own backbone and the weights of `head`; None
    where Transformers has none that reads a score at the end. A bias finds no place in it.
    """
    config = deepcopy(lm.config)
    config.num_labels = head.out_features
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return None
    with torch.device("meta"):
        scorer = AutoModelForSequenceClassification.from_config(config)
    if not hasattr(scorer, "score"):
        return None
    setattr(scorer, scorer.base_model_prefix, lm.base_model)
    scorer.score = nn.Linear(head.in_features, head.out_features, bias=False)
    scorer.score.weight.data = head.weight.detach().clone()
    return scorer.eval()


def head_in_files(path: str) -> Tensor | None:
    """The weights of the scalar head in a folder (or a cached hub model) of safetensors."""
    return tensor_in_files(path, "score.weight")


def choose_padding(
    tokenizer: PreTrainedTokenizerBase, rows: int, stop_ids: Iterable[int] = ()
) -> None:
    """Give `tokenizer` a padding token that has one of `rows` embeddings and ends no conversation.

    Transformers reads a score at the last token that is not padding: padding that is a stop token
    would hide it. No row is added to the embeddings, so that an adapter of the scorer fits its
    base. In this order: the token that it has; a new one in a free row; another special token; an
    ordinary one, the byte 0 if there is a token for it.
    """
    ends = {tokenizer.eos_token_id, *stop_ids}
    vocabulary = tokenizer.get_vocab()
    if tokenizer.pad_token_id is not None and _serves(tokenizer.pad_token_id, rows, ends):
        return
    if max(vocabulary.values()) + 1 == len(tokenizer) < rows and NEW_PADDING not in vocabulary:
        tokenizer.add_special_tokens({"pad_token": NEW_PADDING})
        return
    special = (tokenizer.bos_token, tokenizer.unk_token, *tokenizer.all_special_tokens)
    ordinary = (*BYTE_0, *(t for t, _ in sorted(vocabulary.items(), key=lambda item: item[1])))
    for token in (*special, *ordinary):
        if token in vocabulary and _serves(vocabulary[token], rows, ends):
            tokenizer.pad_token = token
            return


def _serves(pad_id: int, rows: int, ends: set[int | None]) -> bool:
    return 0 <= pad_id < rows and pad_id not in ends
