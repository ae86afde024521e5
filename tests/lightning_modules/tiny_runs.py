"""Any algorithm through the real Trainer in a fraction of a second: in the world of 121 responses,
sampled this time, with every kind of critic, in float64.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from peft import LoraConfig, TaskType
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
)

from datamodules.records import Prompt
from harness.tracking.metrics_csv import MetricsCsv
from lightning_modules.a2c import A2C
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.one_base import critic_on
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.policy import PolicyModule
from lightning_modules.ppo import PPO
from lightning_modules.reinforce import Reinforce
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.collection import Vocabulary
from tests.exact.world import DTYPE, HORIZON, OPTIONS, STOP, TableReward, score_table, tiny_lm

ACTOR_CRITIC = {"critic": "head", "lam": 0.9, "value_coef": 0.5, "whiten_advantages": False}
ALGORITHMS: dict[str, Callable[..., PolicyModule]] = {
    "reinforce": partial(Reinforce, returns="to_go", baseline="mean", importance="none"),
    "rloo": partial(
        Reinforce,
        returns="sequence",
        baseline="leave_one_out",
        importance="none",
        samples_per_prompt=2,
    ),
    "a2c": partial(A2C, **ACTOR_CRITIC, value_updates=3),
    "ppo": partial(PPO, **ACTOR_CRITIC, clip_range=0.2, epochs=2, minibatches=2),
}
BUDGET = {
    "iterations": 3,
    "prompts_per_iteration": 8,
    "val_prompts": 4,
    "evaluate_every": 2,
    "optimizer": partial(torch.optim.Adam, lr=3e-2),
}
COMMON = {name: value for name, value in OPTIONS.items() if name != "critic"} | BUDGET
LORA = LoraConfig(r=2, target_modules="all-linear")


def make(algorithm: str, **options: Any) -> PolicyModule:
    """An algorithm with the options of this world."""
    chosen = ALGORITHMS[algorithm]
    common = {k: v for k, v in COMMON.items() if k not in chosen.keywords}
    return chosen(**common | {"name": algorithm} | options)


def models(critic: str | None, *, lora: bool = False, kind: str = "gpt2", one_base: bool = False):
    """A policy with this critic, and its reference: with adapters, the policy without them."""
    lm = tiny_lm(kind)
    if lora:
        lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=1)
        reference = Reference(lm, shares_policy=True)
    else:
        reference = Reference(frozen(tiny_lm(kind)), shares_policy=False)
    if critic == "adapter":
        add_value_adapter(lm, LORA, seed=2)
        model = ActorCritic(lm, new_value_head(lm), value_adapter=VALUE_ADAPTER)
    elif critic == "head":
        model = ActorCritic(lm, new_value_head(lm))
    elif critic == "copy" and one_base:
        critic = critic_on(lm, LORA, 4, None)
        model = ActorCritic(lm, critic=critic, value_adapter=VALUE_ADAPTER)
    elif critic == "copy":
        model = ActorCritic(lm, critic=ScalarModel(_classifier(kind, lora)))
    else:
        model = ActorCritic(lm)
    return model.to(DTYPE), reference


def _classifier(kind: str, lora: bool):
    lm = tiny_lm(kind, seed=3)
    lm.config.num_labels = 1
    kinds = {"gpt2": GPT2ForSequenceClassification, "llama": LlamaForSequenceClassification}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kinds[kind](lm.config)
    model.base_model.load_state_dict(lm.base_model.state_dict())
    model.to(DTYPE).eval()
    return add_adapter(model, LORA, TaskType.SEQ_CLS, seed=4) if lora else model


def ready(module: PolicyModule, *, reward=None, **of_models: Any):
    """The module with its models, and a list that gets each of its rollouts."""
    model, reference = models(module.options.critic, **of_models)
    module.bind(
        model=model,
        reference=reference,
        reward=reward or TableReward(score_table()),
        vocabulary=Vocabulary(STOP, 0, HORIZON, str),
        gold=None,
    )
    rollouts = []
    collect = module.collect

    def remembered(batch):
        collected = collect(batch)
        rollouts.append(collected[0])
        return collected

    module.collect = remembered
    return module, rollouts


def prompts(count: int) -> dict[str, Any]:
    """A batch of prompts of one to three tokens, padded on the left."""
    lengths = torch.tensor([1 + i % 3 for i in range(count)])
    mask = torch.arange(3) >= 3 - lengths[:, None]
    ids = torch.arange(3).expand(count, 3) * mask
    return {
        "prompt_ids": ids,
        "prompt_mask": mask,
        "prompts": [Prompt.from_text("?")] * count,
        "places": list(range(count)),
    }


def one_batch(batch: dict[str, Any]) -> DataLoader:
    return DataLoader([0], collate_fn=lambda _: batch)


def fit(
    module: PolicyModule,
    folder: Path,
    *,
    iterations: int | None = None,
    resume: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
    **trainer: Any,
) -> list[dict[str, float]]:
    """Train, leaving a checkpoint an iteration; returns the rows that were logged."""
    folder.mkdir(exist_ok=True)
    logger = MetricsCsv(folder / "metrics.csv")
    checkpoints = ModelCheckpoint(
        folder,
        filename="{epoch}",
        save_top_k=-1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
    )
    options = {
        "max_epochs": iterations or module.options.all_iterations,
        "limit_train_batches": 1,
        "accelerator": "cpu",
        "logger": logger,
        "callbacks": [checkpoints, *callbacks],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "inference_mode": False,
    }
    pl.Trainer(**options | trainer).fit(
        module,
        one_batch(prompts(module.options.prompts_per_iteration)),
        one_batch(prompts(module.options.val_prompts)),
        ckpt_path=resume,
        weights_only=True if resume else None,
    )
    return logger.rows


def run(algorithm: str, folder: Path, **options: Any):
    """(module, rows, rollouts) of a whole run; `options` of the algorithm, or of `ready`."""
    parts = {k: options.pop(k) for k in ("lora", "kind", "one_base", "reward") if k in options}
    module, rollouts = ready(make(algorithm, **options), **parts)
    return module, fit(module, folder), rollouts


def weights(*parameters) -> Tensor:
    """Parameters as one vector of their values now."""
    return torch.cat([torch.zeros(0), *(p.detach().flatten() for p in parameters)])


def policy_and_values(module: PolicyModule) -> tuple[Tensor, Tensor]:
    """The trained weights of the policy, and those that are the value function's alone."""
    values = module.model.value_parameters()
    own = {id(p) for p in values}
    policy = [p for p in module.model.parameters() if p.requires_grad and id(p) not in own]
    return weights(*policy), weights(*values)


class Constant(Reward):
    """All responses are equally good."""

    def score(self, responses):
        return torch.zeros(len(responses.prompts))
