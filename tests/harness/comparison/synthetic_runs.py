"""Run folders as training leaves them, with numbers of a test's choice."""

import csv
import json
import os
from pathlib import Path
from typing import Any

CONFIG = {
    "seed": 0,
    "task": {"_target_": "harness.train.train", "_partial_": True},
    "cache_dir": "outputs/cache",
    "data": {"name": "landmarks", "val_pairs": 100},
    "reward": {"name": "learned", "normalise": True},
    "algo": {"name": "ppo", "seed": 0, "beta": 0.1, "val_prompts": 16, "iterations": 4},
    "logger": {"name": "none"},
}
STAGES = {"stages/sft/path": "/cache/sft/aaaa", "stages/reward_model/path": "/cache/rm/bbbb"}
EPISODES = 32  # an iteration


def write_run(
    folder: Path,
    seed: int = 0,
    scores: tuple[float, ...] = (0.5, 1.0),
    kl: float = 1.0,
    gold: float | None = None,
    finished: bool = True,
    summary: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A run whose held-out score is scores[i] after 2 (i + 1) iterations of one second, and whose
    KL grows to `kl`; algo__beta=0.2 sets algo.beta.
    """
    config = json.loads(json.dumps(CONFIG)) | {"seed": seed}
    config["algo"]["seed"] = seed
    for key, value in options.items():
        group, _, name = key.partition("__")
        if name:
            config[group][name] = value
        else:
            config[group] = value
    rows = []
    for step in range(1, 2 * len(scores) + 1):
        row = {"step": step, "rollout/episodes": step * EPISODES, "time/iteration": 1.0}
        row |= {"rollout/entropy": 1 / step, "train/clip_fraction": 0.1, "rollout/length": 8.0}
        if step % 2 == 0:
            row |= {"val/score": scores[step // 2 - 1], "val/kl": kl * step / (2 * len(scores))}
            row |= {"val/reward": row["val/score"] - 0.1 * row["val/kl"], "val/win_rate": 0.5}
            row |= {"reference/score": 0.0} | ({} if gold is None else {"val/gold": gold})
        rows.append(row)
    folder.mkdir(parents=True)
    with open(folder / "metrics.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    state = {"finished": finished, "wandb_id": os.urandom(4).hex(), "config": config}
    state |= {} if inputs is None else {"inputs": inputs}
    (folder / "run.json").write_text(json.dumps(state), encoding="utf-8")
    if finished:
        last = {k: v for k, v in rows[-1].items() if k != "step"}
        about = last | STAGES | {"versions/torch": "2.13", "commit": "c0ffee"} | (summary or {})
        (folder / "summary.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def keep_samples(folder: Path, rows: list[dict[str, Any]], iteration: int = 4) -> None:
    """samples.jsonl of a run: what is not said of a row is worth 1, for the reference 0."""
    known = {"iteration": iteration, "score": 1.0, "reference_score": 0.0}
    lines = [json.dumps(known | row) + "\n" for row in rows]
    with open(folder / "samples.jsonl", "a", encoding="utf-8") as file:
        file.writelines(lines)
