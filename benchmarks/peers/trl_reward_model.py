"""The same training by TRL's RewardTrainer; benchmarks/reward_model.py runs it.

Token ids are given, so nothing is tokenised or cut differently. Gradient checkpointing, which TRL
turns on by itself, is off: it trades speed for memory, and the other side does not use it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.parts.processes import peak_mib


class Losses(TrainerCallback):
    def __init__(self):
        self.values: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, **kwargs: Any) -> None:
        if "loss" in logs:
            self.values.append(float(logs["loss"]))


def train(work: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(work["threads"])
    pairs = json.loads(Path(work["pairs"]).read_text(encoding="utf-8"))
    rows = [{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in pairs]
    steps = -(-len(rows) // work["batch"]) * work["epochs"]
    losses = Losses()
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            work["initial"], dtype=torch.float32
        ),
        args=RewardConfig(
            output_dir=str(Path(work["folder"], "trl-output")),
            per_device_train_batch_size=work["batch"],
            num_train_epochs=work["epochs"],
            learning_rate=work["lr"],
            weight_decay=work["weight_decay"],
            max_grad_norm=work["max_grad_norm"],
            warmup_steps=round(work["warmup"] * steps),
            lr_scheduler_type="linear",
            max_length=None,
            seed=work["seed"],
            use_cpu=not torch.cuda.is_available(),
            bf16=work["precision"] == "bf16",
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(work["initial"]),
        callbacks=[losses],
    )
    before, started, used = peak_mib(), time.perf_counter(), time.process_time()
    trainer.train()
    seconds, used = time.perf_counter() - started, time.process_time() - used
    result = {
        "pairs_per_s": len(rows) * work["epochs"] / seconds,
        "pairs_per_cpu_s": len(rows) * work["epochs"] / used,
        "peak_mib": peak_mib() - before,
        "loss": sum(losses.values[-4:]) / len(losses.values[-4:]),
    }
    if "export" in work:
        trainer.save_model(work["export"])
    return result


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
