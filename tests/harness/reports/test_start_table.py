"""The table at the start says with what learning rates a run begins."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, TaskType

from harness.reports.start_table import start_table
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import add_adapter

LORA = LoraConfig(r=4, target_modules="all-linear")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("critic", "value_lr", "values"),
    [
        (False, None, ""),
        (True, None, ", of the value function 0.0005"),
        (True, 0.002, ", of the value function 0.002"),
    ],
)
def test_the_learning_rates_are_shown(lm, lora, critic, value_lr, values):
    if lora:
        lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0)
    options = SimpleNamespace(
        sequences_per_iteration=8,
        prompts_per_iteration=8,
        samples_per_prompt=1,
        epochs=1,
        minibatches=1,
        micro_batch_size=8,
        iterations=2,
        optimizer=partial(torch.optim.Adam, lr=5e-4),
        value_lr=value_lr,
    )
    algorithm = SimpleNamespace(
        name="any",
        options=options,
        model=ActorCritic(lm, new_value_head(lm)) if critic else ActorCritic(lm),
        collector=SimpleNamespace(vocabulary=SimpleNamespace(max_response_tokens=16)),
    )
    names, texts = (column._cells for column in start_table(algorithm, 9, 3, 1).columns)
    assert dict(zip(names, texts, strict=True))["peak learning rate"] == (
        f"0.0005{' (LoRA)' * lora}{values}"
    )
