"""The table at the start of a policy run: what the numbers of its config mean."""

from peft import PeftModel
from rich.table import Table

from lightning_modules.models.parameters import parameter_counts
from lightning_modules.policy import PolicyModule


def start_table(algorithm: PolicyModule, prompts: int, val_prompts: int, devices: int) -> Table:
    """What the numbers of the config mean in prompts, samples, steps and parameters."""
    options = algorithm.options
    sequences = options.sequences_per_iteration
    minibatch = sequences // options.minibatches
    micro = min(options.micro_batch_size, minibatch // devices)
    steps = options.epochs * options.minibatches
    total, trained = parameter_counts(algorithm.model)
    rows = [
        ("prompts to train on, held out", f"{prompts:,}, {val_prompts:,}"),
        (
            "an iteration samples",
            f"{sequences} responses: {options.prompts_per_iteration} prompts x"
            f" {options.samples_per_prompt} samples, on {devices} device(s)",
        ),
        (
            "and makes",
            f"{steps} optimiser steps: {options.epochs} epochs x"
            f" {options.minibatches} minibatches of {minibatch} responses",
        ),
        (
            "each in",
            f"{-(-minibatch // devices // micro)} micro-batches of up to {micro} responses"
            " a device",
        ),
        (
            f"{options.iterations} iterations are",
            f"{options.iterations * sequences:,} episodes and"
            f" {options.iterations * steps:,} optimiser steps",
        ),
        ("parameters, of which trained", f"{total:,}, {trained:,}"),
        ("peak learning rate", _learning_rates(algorithm)),
        (
            "a response has at most",
            f"{algorithm.collector.vocabulary.max_response_tokens} tokens",
        ),
    ]
    table = Table(show_header=False, title=f"{algorithm.name}: what the numbers mean")
    for row in rows:
        table.add_row(*row)
    return table


def _learning_rates(algorithm: PolicyModule) -> str:
    """Of the policy, and of the value function's own parameters if it has any."""
    options, model = algorithm.options, algorithm.model
    rate = options.optimizer.keywords["lr"]
    told = f"{rate:g}" + (" (LoRA)" if isinstance(model.lm, PeftModel) else "")
    if model.value_parameters():
        told += f", of the value function {options.value_lr or rate:g}"
    return told
