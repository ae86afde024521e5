"""Two processes on one CPU, as `hardware=ddp` starts them."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rollout/episodes"]) for row in rows] == [8, 16]
    assert float(rows[0]["rollout/kl"]) == pytest.approx(0, abs=1e-4)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert done.stdout.count("what the numbers mean") == 1
