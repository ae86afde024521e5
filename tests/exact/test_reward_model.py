"""A reward model trained on preferences of known probabilities, against the best there is."""

from collections import Counter
from functools import partial
from math import exp, sqrt

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from datamodules.preferences import PreferenceDataModule
from datamodules.records import Preference, Prompt
from datamodules.tokenization import Encoder, train_tokenizer
from lightning_modules.actor_critic import ScalarModel
from lightning_modules.backbone import new_scorer
from lightning_modules.reward_model import RewardModel

QUESTIONS, ANSWERS = 6, 6
PAIRS = {"train": 8_000, "val": 10_000}


class Opinions:
    """Every answer to every question has a worth in [-1.5, 1.5]; people compare with noise."""

    def __init__(self):
        self.counts = Counter()
        self.worth = np.random.default_rng(0).uniform(-1.5, 1.5, (QUESTIONS, ANSWERS))

    def preferences(self, split: str) -> list[Preference]:
        rng = np.random.default_rng([1, ("train", "val").index(split)])
        return [self._compare(rng) for _ in range(PAIRS[split])]

    def _compare(self, rng: np.random.Generator) -> Preference:
        question = rng.integers(QUESTIONS)
        a, b = rng.choice(ANSWERS, 2, replace=False)
        p = 1 / (1 + exp(self.worth[question, b] - self.worth[question, a]))
        if rng.random() > p:
            a, b, p = b, a, 1 - p
        prompt = Prompt.from_text(f"question {question}")
        return Preference(prompt, f"answer {a}", f"answer {b}", float(p))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, float]:
    """The last held-out metrics of the real module, data and Trainer."""
    words = [f"question {q} answer {a}" for q in range(QUESTIONS) for a in range(ANSWERS)]
    tokenizer = train_tokenizer(words, 300)
    folder = tmp_path_factory.mktemp("lm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            pad_token_id=tokenizer.pad_token_id,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    data = PreferenceDataModule(Opinions(), Encoder(tokenizer, 16, 16), 64, seed=0)
    module = RewardModel(
        name="reward_model",
        epochs=3,
        batch_size=64,
        max_grad_norm=1.0,
        optimizer=partial(torch.optim.AdamW, lr=3e-3),
        warmup=0.05,
    ).bind(ScalarModel(new_scorer(folder, tokenizer, seed=0)))
    trainer = pl.Trainer(
        max_epochs=module.epochs,
        check_val_every_n_epoch=module.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    )
    trainer.fit(module, datamodule=data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_accuracy_is_the_best_possible_up_to_chance(trained, measured):
    best = trained["val/bayes_accuracy"]
    error = sqrt(best * (1 - best) / PAIRS["val"])
    distance = abs(trained["val/accuracy"] - best) / error
    measured("E11 reward model, standard errors from the Bayes accuracy", distance, 4)


def test_predicted_probabilities_are_the_real_ones(trained, measured):
    measured("E11 reward model, expected calibration error", trained["val/ece"], 0.03)


def test_knowing_nothing_would_not_pass(trained):
    """The world has something to learn: the best model is far from a coin."""
    assert 0.65 < trained["val/bayes_accuracy"] < 0.8
    assert trained["val/brier"] < 0.22
