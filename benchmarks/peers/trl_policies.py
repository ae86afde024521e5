"""What both policy trainers of TRL need for our work: a tokenizer, a clock, the weights' mark."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.parts.processes import forget_peak, peak_mib
from benchmarks.parts.steps import Steps, mark


class Clock(TrainerCallback):
    """Seconds of each rollout with all its updates; each so many optimiser steps are one."""

    def __init__(self, updates_in_a_step: int):
        self.updates, self.seen = updates_in_a_step, 0
        self.steps = Steps()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen += 1
        if self.seen % self.updates == 0:
            self.steps.end()


def numbers(work: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are their own ids, so that text says exactly which ids are meant."""
    words = models.WordLevel({str(i): i for i in range(work["vocabulary"])}, unk_token="0")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=str(work["pad"]),
        eos_token=str(work["stop"]),
        padding_side="left",
    )


def policy(work: dict[str, Any]) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(work["policy"], dtype=torch.float32)


def scorer(work: dict[str, Any]) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(
        work["reward"], dtype=torch.float32, num_labels=1
    )


def timed_training(trainer: Any, clock: Clock, weights: dict[str, float]) -> dict[str, Any]:
    """Train, and say what it took."""
    held = forget_peak()
    started = time.perf_counter()
    clock.steps.begin()
    trainer.train()
    return {
        "seconds": clock.steps.seconds,
        "cpu_seconds": clock.steps.cpu_seconds,
        "total": time.perf_counter() - started,
        "peak_mib": peak_mib(),
        "held_mib": held,
        "weights": weights,
    }


def weights_mark(model: torch.nn.Module, reward: torch.nn.Module) -> dict[str, float]:
    """By which both sides see that they began with the same weights."""
    with torch.no_grad():
        return {
            "policy": mark(lambda ids: model(input_ids=ids).logits, model.config.vocab_size),
            "reward": mark(lambda ids: reward(input_ids=ids).logits, model.config.vocab_size),
        }
