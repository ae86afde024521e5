"""Two processes on one CPU, as `hardware=ddp` starts them."""

import csv
import os
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy

from lightning_modules.forward.checkpointing import set_checkpointing
from tests.exact.world import RESPONSES, Given
from tests.lightning_modules import tiny_runs

ROOT = Path(__file__).parents[3]
STATEFUL = {"adaptive_beta": {"target": 0.1, "horizon": 50.0}, "normalise_scores": True}
BY_TOKENS = {"micro_batch_size": None, "micro_batch_tokens": 18}
# Everything that is a sum or a decision over ranks. Orders of minibatches differ by rank, so one.
RUNS = {
    "reinforce": {**STATEFUL, "max_grad_norm": 0.5},
    "rloo": {"normalise": "tokens", "missing_eos_penalty": 1.0},
    "a2c, head": {"critic": "head", "value_updates": 3, "whiten_advantages": True, **STATEFUL},
    "a2c, copy": {"critic": "copy", "value_updates": 3, "max_grad_norm": 0.5},
    "a2c, adapter": {"critic": "adapter", "value_updates": 3, "lora": True},
    # After three steps, one rank's part of the responses is above the target and the whole is not.
    "ppo": {"critic": "head", "epochs": 6, "minibatches": 1, "target_kl": 0.02},
    "a2c, checkpointed": {"critic": "adapter", "value_updates": 3, "lora": True, **BY_TOKENS},
    "rloo, short of memory": BY_TOKENS,
}


@pytest.mark.slow
def test_two_devices_share_an_iteration_and_one_of_them_writes(tiny_policy, tmp_path):
    overrides = [o for o in tiny_policy if o != "hardware=cpu"]
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "run.py"),
            *overrides,
            "algo.iterations=2",
            "hardware=ddp",
            "hardware.accelerator=cpu",
            "hardware.devices=2",
            "hydra.run.dir=run",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rollout/episodes"]) for row in rows] == [8, 16]
    assert float(rows[0]["rollout/kl"]) == pytest.approx(0, abs=1e-4)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert done.stdout.count("what the numbers mean") == 1


class Shares(Given):
    """Of the same 16 responses, each rank has its own part: then ranks can be compared with one."""

    def respond(self, lm, batch, noise, samples):
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        # The first ones are short and the last ones long.
        responses = list(range(0, len(RESPONSES), 8))
        share = responses[rank * len(responses) // ranks : (rank + 1) * len(responses) // ranks]
        return super().respond(lm, {"responses": share}, noise, samples)


def out_of_memory_once(module) -> None:
    """On the second rank, when it has the gradient of its first micro-batch."""
    accumulate, calls = module.accumulate, iter(range(1000))

    def short(loss, *, last):
        accumulate(loss, last=last)
        if dist.get_rank() == 1 and next(calls) == 0:
            raise torch.OutOfMemoryError("out of memory")

    module.accumulate = short


def results(folder: Path, devices: int) -> dict[str, dict]:
    """What each of RUNS comes to: weights, metrics, and what beta and the scores' moments are."""
    found = {}
    for name, options in RUNS.items():
        options = {"iterations": 3, "micro_batch_size": 3, "prompts_per_iteration": 16} | options
        lora = options.pop("lora", False)
        algorithm = name.split(",")[0]
        if algorithm == "rloo":
            options["prompts_per_iteration"] = 8
        module, _ = tiny_runs.ready(
            tiny_runs.make(
                algorithm, **options, optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.5)
            ),
            lora=lora,
        )
        module.collector.__class__ = Shares
        if "checkpointed" in name:
            set_checkpointing(module.model, True, kept=0)
        if "short" in name and devices > 1:
            out_of_memory_once(module)
        trainer = {"limit_val_batches": 0, "devices": devices}
        if devices > 1:
            # Where ranks decide apart, one of them waits for the other in vain.
            trainer["strategy"] = DDPStrategy(timeout=timedelta(seconds=60))
        rows = tiny_runs.fit(module, folder / name, **trainer)
        found[name] = {
            "policy, values": tiny_runs.policy_and_values(module),
            "rows": rows,
            "beta": module.beta,
            "moments": module.shaping.state(),
            "counts": (module.episodes, module.tokens),
        }
    return found


@pytest.mark.slow
def test_two_devices_come_to_what_one_does(tmp_path):
    (tmp_path / "two").mkdir()
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [torch.load(tmp_path / "two" / f"{r}.pt", weights_only=True) for r in (0, 1)]
    (tmp_path / "one").mkdir()
    for name, one in results(tmp_path / "one", devices=1).items():
        for rank in ranks:
            two = rank[name]
            for a, b in zip(two["policy, values"], one["policy, values"], strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=f"{name}: weights")
            assert two["beta"] == pytest.approx(one["beta"], rel=1e-10), name
            assert two["moments"] == pytest.approx(one["moments"], rel=1e-12), name
            assert two["counts"] == one["counts"], name
        for row, expected in zip(ranks[0][name]["rows"], one["rows"], strict=True):
            for metric, value in expected.items():
                if not metric.startswith(("time/", "throughput/")):
                    # Logged in float32.
                    assert row[metric] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, metric)
        if name == "ppo":
            steps = [row["train/steps"] for row in one["rows"]]
    assert all(1 <= n < RUNS["ppo"]["epochs"] for n in steps), "nothing was stopped"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    found = results(target, devices=2)
    torch.save(found, target / f"{dist.get_rank()}.pt")
