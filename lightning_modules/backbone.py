"""Models: built or loaded, given adapters and heads, frozen."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lightning_modules.actor_critic import REWARD_CONFIG, adapter_parameters
from lightning_modules.options import OptionError, require

VALUE_ADAPTER = "value"


class ModelError(ValueError):
    """A model that cannot be had or cannot be used; the message says what to do."""


class Backbone:
    """Where the language model comes from: a hub id, a folder, or a toy built from a config.

    `pretrained` None means the toy: `config` is then a partial of a Hugging Face config class, and
    `vocab_size` the largest vocabulary that its tokenizer may learn. `lr` holds learning rates that
    suit the size, by task.
    """

    def __init__(
        self,
        *,
        name: str,
        pretrained: str | None,
        revision: str | None = None,
        vocab_size: int | None = None,
        config: Callable[..., PretrainedConfig] | None = None,
        lr: dict[str, float] | None = None,
    ):
        if pretrained is None and config is None:
            raise OptionError("model.pretrained is missing: give a hub id or a folder")
        if pretrained is None:
            require(
                vocab_size is not None and vocab_size >= 300,
                "model.vocab_size",
                vocab_size,
                "must be at least 300 (256 bytes and the special tokens)",
            )
        self.name = name
        self.pretrained = pretrained
        self.revision = revision
        self.vocab_size = vocab_size
        self.config = config
        self.lr = lr

    @property
    def embedded(self) -> bool:
        """Whether the model is a toy without weights of its own."""
        return self.pretrained is None

    def check(self, max_tokens: int) -> None:
        """Raise unless there is such a model and it takes sequences of `max_tokens` tokens.

        Cheap: it reads the config alone.
        """
        config = self.config() if self.embedded else fetch_config(self.pretrained, self.revision)
        limit = getattr(config, "max_position_embeddings", None)
        require(
            limit is None or max_tokens <= limit,
            "data.max_prompt_tokens + data.max_response_tokens",
            max_tokens,
            f"{self.name} has {limit} positions; lower one of them",
        )

    def build(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        """The toy with random weights."""
        config = self.config(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config)

    def identity(self) -> dict[str, Any]:
        """What the weights depend on, for the fingerprint of a stage."""
        if self.embedded:
            config = self.config(vocab_size=self.vocab_size).to_dict()
            config.pop("transformers_version", None)
            return {"vocab_size": self.vocab_size, "config": config}
        return pretrained_identity(self.pretrained, self.revision)


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
    with _clear_errors(path):
        model = AutoModelForCausalLM.from_pretrained(path, revision=revision or "main", dtype=dtype)
    return model.eval()


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
            " right, so it has no score at the end of an answer"
        )
    return config


def load_scorer(path: str | Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A trained reward model: one whose scalar head is in the folder, never a fresh one."""
    check_scorer(path)
    with _clear_errors(path):
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


@contextmanager
def _clear_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(_why_not(path, error)) from error


def new_scorer(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    heads: int = 1,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A causal LM's trunk with new scalar heads, N(0, 1/(d+1)) as in Stiennon et al. (2020).

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


def new_value_head(lm: nn.Module) -> nn.Linear:
    """A head on the policy's hidden states that values every state 0 to begin with, float32."""
    head = nn.Linear(lm.config.get_text_config().hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def add_adapter(model: PreTrainedModel, lora: LoraConfig, task: TaskType, seed: int) -> PeftModel:
    """`model` with LoRA adapters in its layers; all else is frozen.

    For a scorer, PEFT trains the scalar head as well and saves it with the adapter.
    """
    config = deepcopy(lora)
    config.task_type = task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def add_value_adapter(model: PeftModel, lora: LoraConfig, seed: int) -> None:
    """A second adapter on the policy's trunk, VALUE_ADAPTER, for a value head to read."""
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


def frozen(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)


def parameter_counts(*models: nn.Module) -> tuple[int, int]:
    """How many parameters the models have together, and how many of them are trained."""
    parameters = {id(p): p for model in models for p in model.parameters()}.values()
    return (
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )
