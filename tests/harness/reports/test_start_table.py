"""The table at the start says of what a run is made, and what its numbers mean."""

from functools import partial

import pytest
import torch
from peft import LoraConfig, TaskType

from harness.checks.room import chosen
from harness.reports.model_words import model_words, reward_words, short
from harness.reports.start_table import start_table, thumbs_line
from lightning_modules.forward.checkpointing import set_checkpointing
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import add_adapter, add_value_adapter
from lightning_modules.models.reference import Reference
from lightning_modules.ppo import PPO
from lightning_modules.reinforce import Reinforce
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.programmed import GoldReward
from lightning_modules.rollouts.collection import Vocabulary
from tests.lightning_modules.supervised_parts import THUMBS, Given, pair

LORA = LoraConfig(r=4, target_modules="all-linear")
POLICY = {
    "iterations": 5,
    "prompts_per_iteration": 6,
    "samples_per_prompt": 4,
    "epochs": 3,
    "minibatches": 2,
    "micro_batch_size": 5,
    "temperature": 0.7,
    "beta": 0.05,
    "gamma": 0.99,
    "normalise": "sequences",
    "max_grad_norm": 1.0,
    "optimizer": partial(torch.optim.Adam, lr=5e-4),
    "value_lr": None,
    "lr_decay": "linear",
    "evaluate_every": 1,
    "val_prompts": 3,
    "seed": 0,
}
CRITIC = {"critic": "head", "lam": 0.9, "value_coef": 0.5, "whiten_advantages": True}
SAMPLES = {"returns": "to_go", "baseline": "leave_one_out", "importance": "token"}


def rows_of(algorithm, model: ActorCritic, **given) -> dict[str, str]:
    vocabulary = Vocabulary((0,), 0, 16, None)
    reference = Reference(model.lm, shares_policy=given.pop("shares_policy", False))
    algorithm.bind(
        model=model, reference=reference, reward=GoldReward(), vocabulary=vocabulary, gold=None
    )
    about = {
        "model": "tiny",
        "start": "as it came",
        "data": "pairs",
        "prompts": (1234, 3),
        "devices": 1,
        "precision": "32-true",
        "stages": {},
        "changed": [],
    }
    names, texts = (column._cells for column in start_table(algorithm, **about | given).columns)
    return dict(zip(names, texts, strict=True))


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
    model = ActorCritic(lm, new_value_head(lm)) if critic else ActorCritic(lm)
    algorithm = PPO(**POLICY | CRITIC | {"name": "ppo", "clip_range": 0.2, "value_lr": value_lr})
    told = rows_of(algorithm, model)["peak learning rate"]
    assert told.startswith(f"0.0005{' (LoRA)' * lora}{values};")


def test_the_batch_is_counted_as_it_will_be_trained_on(lm):
    algorithm = PPO(**POLICY | CRITIC | {"name": "ppo", "clip_range": [0.2, 0.3]})
    rows = rows_of(algorithm, ActorCritic(lm, new_value_head(lm)), changed=["a=1 (2)", "b=3"])
    assert rows["an iteration"] == "24 responses: 6 prompts x 4 samples"
    # 24 responses in 2 minibatches of 12, of which at most 5 fit: 5 + 5 + 2.
    assert rows["and its updates"] == (
        "6 optimiser steps: 3 epochs x 2 minibatches of 12 responses,"
        " each in 3 micro-batches of up to 5"
    )
    assert "activations" not in rows
    assert rows["in all"] == "5 iterations: 120 episodes, 30 optimiser steps"
    assert rows["clip range"] == "0.2 below 1, 0.3 above"
    assert rows["gamma, lambda"] == "0.99, 0.9"
    assert rows["temperature"] == "0.7"
    assert rows["a response"] == "at most 16 tokens"
    assert rows["prompts"] == "1,234 to train on, 3 held out"
    assert rows["not default"] == "a=1 (2), b=3"


def test_a_critics_warm_up_and_what_it_begins_as_are_told(lm):
    own = {"name": "ppo", "clip_range": 0.2, "critic_warmup": 2, "critic_from": "outputs/a"}
    rows = rows_of(PPO(**POLICY | CRITIC | own), ActorCritic(lm, new_value_head(lm)))
    assert rows["critic"].endswith(", begun as outputs/a")
    assert rows["critic warm-up"].startswith("2 iterations before the policy learns: 48 episodes")
    assert rows["in all"] == "5 iterations: 120 episodes, 30 optimiser steps, after the warm-up"


def test_an_algorithm_shows_what_it_has_and_no_more(lm):
    adaptive = {"adaptive_beta": {"target": 6.0, "horizon": 1000}}
    algorithm = Reinforce(**POLICY | SAMPLES | adaptive | {"name": "rloo"})
    rows = rows_of(algorithm, ActorCritic(lm))
    assert not {"critic", "clip range", "gamma, lambda"} & rows.keys()
    assert rows["gamma"] == "0.99"
    assert "other samples" in rows["weight"]
    assert "6 nats" in rows["KL coefficient"]
    assert rows["not default"] == "nothing"


def test_adapters_are_counted_apart_from_the_model_they_are_on(lm):
    size = sum(p.numel() for p in lm.parameters())
    assert model_words(lm, "tiny") == f"tiny, {short(size)} parameters, all trained, float32"
    lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0)
    own = sum(p.numel() for p in lm.parameters() if p.requires_grad)
    add_value_adapter(lm, LORA, seed=1)
    both = sum(p.numel() for p in lm.parameters() if p.requires_grad)
    assert both > own
    algorithm = PPO(**POLICY | CRITIC | {"name": "ppo", "clip_range": 0.2, "critic": "adapter"})
    model = ActorCritic(lm, new_value_head(lm), value_adapter="value")
    rows = rows_of(algorithm, model, shares_policy=True)
    assert rows["policy"] == (
        f"tiny, {short(size)} parameters, LoRA r=4: {short(own)} trained, float32"
    )
    assert f"{short(both - own)} trained" in rows["critic"]
    assert rows["reference"] == "the same with its adapters off: as it came"


def test_what_is_frozen_and_what_is_trained_may_have_other_types(lm):
    lm = lm.to(torch.bfloat16).requires_grad_(False)
    assert model_words(lm, "tiny").endswith("parameters, bfloat16")
    lm.get_output_embeddings().weight.data = lm.get_output_embeddings().weight.data.float()
    lm.get_output_embeddings().weight.requires_grad_(True)
    assert "bfloat16, what is trained float32" in model_words(lm, "tiny")


def test_a_sum_of_rewards_is_told_part_by_part():
    parts = {"a": GoldReward(), "b": GoldReward(name="other")}
    reward = CombinedReward(name="sum", rewards=parts, weights={"a": 1.0, "b": 0.5})
    told = reward_words(reward, "pairs", {})
    assert told == "1 x gold, which pairs knows + 0.5 x other, which pairs knows"


@pytest.mark.parametrize(
    ("count", "told"),
    [(7, "7"), (960, "960"), (999_960, "1.0M"), (564_200, "564.2k"), (134_515_008, "134.5M")],
)
def test_counts_are_short(count, told):
    assert short(count) == told


def test_what_was_chosen_for_memorys_sake_is_shown(lm):
    options = POLICY | {"micro_batch_size": None, "micro_batch_tokens": "auto"}
    algorithm = PPO(**options | CRITIC | {"name": "ppo", "clip_range": 0.2})
    algorithm.micro_batches.tokens = 12345
    model = ActorCritic(lm, new_value_head(lm))
    set_checkpointing(model, True)
    rows = rows_of(algorithm, model)
    assert rows["and its updates"].endswith(
        "each in micro-batches of up to 12,345 tokens with padding, as fit into memory"
    )
    assert "computed again" in rows["activations"]
    assert chosen(algorithm) == {
        "micro_batch_tokens": 12345,
        "micro_batch_size": None,
        "checkpointing": True,
    }


def test_how_many_thumbs_are_up_and_what_they_count_is_told():
    line = thumbs_line(Given([*THUMBS, pair()], THUMBS[:1]), 0.25)
    assert line.startswith("4 thumbs, 75% of them up; 1 held out, 100% of them up;")
    assert line.endswith("1 comparison beside them; a thumb weighs 0.25 of one")
    assert "comparison" not in thumbs_line(Given(THUMBS), 1.0)
