"""Supervised modules without a Trainer, on exact models: a step can be looked at by itself."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
)

from datamodules.micro_batches import SupervisedDataModule
from datamodules.records import Feedback, Preference, Prompt, Ranking, Thumb
from datamodules.sources.source import Source
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.reward_model import RewardModel
from lightning_modules.sft import SFT
from lightning_modules.supervised import SupervisedModule
from tests.exact.world import DTYPE, norms_in_float64
from tests.properties.drawing import OneProcess

ROOM = 1_000_000  # tokens: a batch is one micro-batch
COMMON = {
    "epochs": 1,
    "batch_size": 8,
    "micro_batch_tokens": ROOM,
    "max_grad_norm": None,
    "optimizer": partial(torch.optim.SGD, lr=0.1),
    "warmup": 0.0,
}
PLAIN = {
    "loss": "bradley_terry",
    "margin_coef": 0.0,
    "label_smoothing": 0.0,
    "tie_threshold": None,
    "centring_coef": 0.0,
    "ensemble": 1,
}


def make_sft(**options: Any) -> SFT:
    return SFT(**{"name": "sft", **COMMON, **options})


def make_reward_model(**options: Any) -> RewardModel:
    return RewardModel(**{"name": "reward_model", **COMMON, **PLAIN, **options})


class Given(Source):
    """Feedback as it is given; both splits are the same unless `val` is given too."""

    def __init__(
        self, rows: Sequence[Feedback], val: Sequence[Feedback] = (), too_long: str = "cut"
    ):
        super().__init__(
            name="given", max_prompt_tokens=64, max_response_tokens=64, too_long=too_long
        )
        self.splits = {"train": list(rows), "val": list(val or rows)}

    def comparisons(self, split):
        return [row for row in self.splits[split] if not isinstance(row, Thumb)]

    def thumbs(self, split):
        return [row for row in self.splits[split] if isinstance(row, Thumb)]

    def identity(self):
        return {}


def pair(chosen: str = "Good.", rejected: str = "Bad.", prompt: str = "Why?", **known: float):
    return Preference(Prompt.from_text(prompt), chosen, rejected, **known)


def ranking(responses: Sequence[str], ratings: Sequence[float], prompt: str = "Why?") -> Ranking:
    return Ranking(Prompt.from_text(prompt), tuple(responses), tuple(map(float, ratings)))


LONG_PROMPT = "Where is the Taj Mahal, and which city should I visit to see it?"
# Pairs and rankings of two to four responses, ties among them; prompts long and short.
MIXED = (
    ranking(["In Agra.", "In Rome.", "Who knows?"], [3, 1, 2], LONG_PROMPT),
    pair("Yes.", "No, never at all.", strength=2.0),
    ranking(["a b", "b", "c", "d e f"], [2, 2, 1, 1], LONG_PROMPT + " Now?"),
    pair("Because.", "?", "How come?"),
    ranking(["x", "y y y"], [1, 0]),
    ranking(["one", "two", "three"], [1, 1, 0], "Count to three, slowly, please."),
)

THUMBS = tuple(
    Thumb(Prompt.from_text(prompt), response, liked)
    for prompt, response, liked in (
        (LONG_PROMPT, "In Agra.", True),
        (LONG_PROMPT, "In Paris, on a river.", False),
        ("Why?", "Because.", True),
        ("How come?", "It is so.", True),
    )
)


def exact_config(kind: str, **options: Any) -> PretrainedConfig:
    """Of a model with two layers and no dropout."""
    if kind == "gpt2":
        return GPT2Config(
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=160,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **options,
        )
    return LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        **options,
    )


def exact_model(kind: str, encoder: Any, task: Any, **options: Any) -> nn.Module:
    """A random model in float64, far from uniform."""
    ids = {"pad_token_id": encoder.pad_id, "eos_token_id": encoder.stop_id}
    config = exact_config(kind, vocab_size=len(encoder.tokenizer), **ids, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.from_config(config)
        if kind == "llama":
            norms_in_float64(model)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
    return model.to(DTYPE).eval()


def exact_lm(kind: str, encoder: Any) -> nn.Module:
    return exact_model(kind, encoder, AutoModelForCausalLM)


def exact_scorer(kind: str, encoder: Any, heads: int = 1) -> nn.Module:
    return exact_model(kind, encoder, AutoModelForSequenceClassification, num_labels=heads)


def exact_scalar(kind: str, encoder: Any, heads: int = 1) -> ScalarModel:
    return ScalarModel(exact_scorer(kind, encoder, heads)).to(DTYPE)


def attach(module: SupervisedModule, model: nn.Module, strategy=None, ranks: int = 1) -> dict:
    """Give a module a model of its own and what it asks of a Trainer; returns what it will log."""
    module.bind(deepcopy(model))
    module._trainer = SimpleNamespace(
        strategy=strategy or OneProcess(),
        world_size=ranks,
        global_step=0,
        estimated_stepping_batches=10,
    )
    parts = module.configure_optimizers()
    logged: dict[str, float] = {}
    module.optimizers = lambda: parts["optimizer"]
    module.lr_schedulers = lambda: parts["lr_scheduler"]
    module.log_dict = lambda metrics, **_: logged.update({k: float(v) for k, v in metrics.items()})
    return logged


def batch_of(data: SupervisedDataModule, rows: Sequence[Any]) -> list[dict[str, Tensor]]:
    """Rows as the loader hands them to a step."""
    return [data.collate(part) for part in data.micro_batches(list(rows))]


def weights(module: SupervisedModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.model.parameters()])
