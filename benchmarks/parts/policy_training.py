"""PPO or RLOO of this project on given models and prompts, in a process of its own.

    python benchmarks/parts/policy_training.py '<the work as JSON>'

prints one line of JSON: seconds of each step, peak memory in MiB, what was done. A step is a
rollout with all its updates.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmarks.parts.composed import (  # noqa: E402
    algorithm,
    bind,
    hardware,
    learned_reward,
    trainer_for,
)
from benchmarks.parts.processes import forget_peak, peak_mib  # noqa: E402
from benchmarks.parts.steps import Steps, mark  # noqa: E402
from datamodules.records import Prompt  # noqa: E402
from harness.parts.hardware import frozen_dtype, prepare_device  # noqa: E402
from harness.quiet import quiet_transformers  # noqa: E402
from lightning_modules.models.actor_critic import ActorCritic  # noqa: E402
from lightning_modules.models.loading import LoadOptions, load_causal_lm  # noqa: E402
from lightning_modules.models.parameters import frozen  # noqa: E402
from lightning_modules.models.reference import Reference  # noqa: E402
from lightning_modules.models.scalar import ScalarModel  # noqa: E402
from lightning_modules.models.scorers import load_scorer  # noqa: E402
from lightning_modules.policy import PolicyModule  # noqa: E402

PARTS = ("time/collect", "time/score", "time/update")


class Clock(pl.Callback):
    """Seconds of each step, and of its parts."""

    def __init__(self):
        self.steps = Steps()
        self.parts: dict[str, list[float]] = {name: [] for name in PARTS}

    def on_train_start(self, *args: Any) -> None:
        self.steps.begin()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        self.steps.end()
        for name, values in self.parts.items():
            values.append(float(trainer.callback_metrics[name]))


def train(work: dict[str, Any]) -> dict[str, Any]:
    quiet_transformers()
    torch.set_num_threads(work["threads"])
    device = hardware(work["precision"])
    prepare_device(device)
    steps, module = ready(work, frozen_dtype(device))
    weights = weights_mark(module)
    clock = Clock()
    prompts = [ids for step in steps for ids in step["prompt_ids"].tolist()]
    trainer = trainer_for(module, device, len(steps), prompts, [clock])
    held = forget_peak()
    batches = iter(steps)
    trainer.fit(module, DataLoader([0], collate_fn=lambda _: next(batches)))
    return {
        "seconds": clock.steps.seconds,
        "cpu_seconds": clock.steps.cpu_seconds,
        "parts": {name: statistics.median(found[1:]) for name, found in clock.parts.items()},
        "peak_mib": peak_mib(),
        "held_mib": held,
        "weights": weights,
        "sequences": module.episodes,
        "tokens": module.tokens,
        "updates": module.options.updates * len(steps),
    }


def ready(work: dict[str, Any], dtype: torch.dtype) -> tuple[list[dict[str, Any]], PolicyModule]:
    """The prompts of each step, and the module with its models."""
    prompts = json.loads(Path(work["prompts"]).read_text(encoding="utf-8"))
    steps = list(batches(prompts, work["batch"] // work["samples"]))
    of_ppo = {"value_coef": work["value_coef"], "lam": work["lam"]}
    of_rloo = {"importance": "sequence"}
    module = algorithm(
        work["algo"],
        iterations=len(steps),
        prompts_per_iteration=work["batch"] // work["samples"],
        samples_per_prompt=work["samples"],
        epochs=work["epochs"],
        minibatches=work["minibatches"],
        beta=work["beta"],
        evaluate_every=len(steps),
        seed=work["seed"],
        **{"optimizer.lr": work["lr"]},
        **(of_ppo if work["algo"] == "ppo" else of_rloo),
    )
    reward = learned_reward(work["reward"], dtype)
    lm = load_causal_lm(work["policy"])
    critic = ScalarModel(load_scorer(work["reward"])) if work["algo"] == "ppo" else None
    copy = load_causal_lm(work["policy"], how=LoadOptions(dtype))
    reference = Reference(frozen(copy), shares_policy=False)
    model = ActorCritic(lm, critic=critic)
    return steps, bind(module, model, reference, reward, work["response_tokens"])


def batches(prompts: list[list[int]], count: int) -> Iterator[dict[str, Any]]:
    """So many prompts each, all of the same length."""
    for start in range(0, len(prompts), count):
        ids = torch.tensor(prompts[start : start + count])
        yield {
            "prompt_ids": ids,
            "prompt_mask": torch.ones_like(ids, dtype=torch.bool),
            "prompts": [Prompt.from_text("?")] * len(ids),
            "places": list(range(start, start + len(ids))),
        }


@torch.no_grad()
def weights_mark(module: PolicyModule) -> dict[str, float]:
    """By which both sides see that they began with the same weights."""
    lm, reward = module.model.lm, module.collector.reward.scorer.model.model
    vocabulary = lm.config.vocab_size
    return {
        "policy": mark(lambda ids: lm(input_ids=ids).logits, vocabulary),
        "reward": mark(lambda ids: reward(input_ids=ids).logits, vocabulary),
    }


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
