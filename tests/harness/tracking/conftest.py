"""Real runs of W&B, offline."""

import pytest
import wandb

from harness.tracking.wandb_run import wandb_run


@pytest.fixture
def real_run(tmp_path, monkeypatch):
    """real_run(run_id, job_type): a logger on a real W&B run, without a key."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    def start(run_id, job_type="ppo", **options):
        chosen = {"project": "test", "entity": None, "mode": None, "group": None, "tags": []}
        chosen |= {"run_name": "name", "default_group": "group", "config": {"algo": {"beta": 0.1}}}
        return wandb_run(
            name="wandb",
            job_type=job_type,
            run_id=run_id,
            x_axis="rollout/episodes",
            **{"folder": tmp_path, "metrics": tmp_path / "metrics.csv"} | chosen | options,
        )

    yield start
    wandb.teardown()  # waits until all is on disk, as the end of a process does
