"""RLOO by TRL's trainer on our work; benchmarks/policy.py runs it in an environment of its own.

A step is a rollout of `samples` responses to each of its prompts, then `epochs` updates on it; TRL
counts each update as a step. Prompts are text of ids, which its tokenizer reads back exactly.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.trl_policies import (
    Clock,
    numbers,
    policy,
    scorer,
    timed_training,
    weights_mark,
)


def train(work: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(work["threads"])
    prompts = json.loads(Path(work["prompts"]).read_text(encoding="utf-8"))
    # The blank at the end stands between prompt and response when TRL joins them for the reward.
    rows = [{"prompt": "".join(f"{i} " for i in ids)} for ids in prompts]
    model, reward = policy(work), scorer(work)
    weights = weights_mark(model, reward)
    clock = Clock(work["epochs"])
    trainer = RLOOTrainer(
        model=model,
        reward_funcs=reward,
        args=_settings(work, len(prompts)),
        train_dataset=Dataset.from_list(rows),
        processing_class=numbers(work),
        reward_processing_classes=numbers(work),
        callbacks=[clock],
    )
    result = timed_training(trainer, clock, weights)
    lengths = [
        log["completions/mean_length"]
        for log in trainer.state.log_history
        if "completions/mean_length" in log
    ]
    updates = trainer.state.global_step
    sequences = updates // work["epochs"] * work["batch"]
    return result | {
        "sequences": sequences,
        "updates": updates,
        "tokens": round(sum(lengths) / len(lengths) * sequences),
    }


def _settings(work: dict[str, Any], prompts: int) -> RLOOConfig:
    steps = prompts * work["samples"] // work["batch"]
    return RLOOConfig(
        output_dir=str(Path(work["folder"], "trl-output")),
        max_steps=steps * work["epochs"],
        per_device_train_batch_size=work["batch"],
        gradient_accumulation_steps=1,
        num_generations=work["samples"],
        num_iterations=work["epochs"],
        max_completion_length=work["response_tokens"],
        generation_kwargs={} if work["stops"] else {"min_new_tokens": work["response_tokens"]},
        shuffle_dataset=False,
        temperature=1.0,
        beta=work["beta"],
        learning_rate=work["lr"],
        lr_scheduler_type="linear",
        seed=work["seed"],
        use_cpu=not torch.cuda.is_available(),
        bf16=work["precision"].startswith("bf16"),
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
