"""PPO by TRL's trainer on our work; benchmarks/policy.py runs it in an environment of its own.

TRL 0.24 is the last one with PPO in its main package; Transformers 4.57 is of its time. A step is a
rollout, then `epochs` times `minibatches` updates. Prompts are token ids.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from trl import PPOConfig, PPOTrainer

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
    rows = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    models = {"model": policy(work), "ref_model": policy(work), "reward_model": scorer(work)}
    weights = weights_mark(models["model"], models["reward_model"])
    clock = Clock(1)
    trainer = PPOTrainer(
        args=_settings(work, len(prompts)),
        processing_class=numbers(work),
        value_model=scorer(work),
        train_dataset=rows,
        eval_dataset=rows.select([0]),
        callbacks=[clock],
        **models,
    )
    result = timed_training(trainer, clock, weights)
    logs = [log for log in trainer.state.log_history if "objective/kl" in log]
    result |= {
        "sequences": trainer.state.episode,
        # At most: with a stop token responses may end before.
        "tokens": trainer.state.episode * work["response_tokens"],
        "updates": len(logs) * work["epochs"] * work["minibatches"],
        "kl": logs[-1]["objective/kl"],
        "score": logs[-1]["objective/scores"],
    }
    if "export" in work:
        trainer.save_model(work["export"])
    return result


def _settings(work: dict[str, Any], prompts: int) -> PPOConfig:
    return PPOConfig(
        output_dir=str(Path(work["folder"], "trl-output")),
        total_episodes=prompts,
        # Its minibatches are parts of this; with accumulation there would be fewer updates.
        per_device_train_batch_size=work["batch"],
        gradient_accumulation_steps=1,
        num_mini_batches=work["minibatches"],
        num_ppo_epochs=work["epochs"],
        local_rollout_forward_batch_size=work["batch"],
        response_length=work["response_tokens"],
        stop_token="eos" if work["stops"] else None,
        temperature=1.0,
        kl_coef=work["beta"],
        lam=work["lam"],
        vf_coef=work["value_coef"],
        learning_rate=work["lr"],
        lr_scheduler_type="linear",
        seed=work["seed"],
        use_cpu=not torch.cuda.is_available(),
        bf16=work["precision"].startswith("bf16"),
        gradient_checkpointing=False,
        num_sample_generations=0,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
