import csv

import pytest
import wandb

from harness.tracking import MetricsCsv, flat, has_api_key, sync_command, wandb_run


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_a_step_whatever_the_calls(tmp_path):
    log = MetricsCsv(tmp_path / "metrics.csv")
    log.log_metrics({"a": 1.0, "epoch": 0}, step=0)
    log.log_metrics({"a": 2.0}, step=1)
    log.log_metrics({"b": 5.0}, step=1)
    log.log_metrics({"a": 3.0}, step=2)
    assert rows_of(tmp_path / "metrics.csv") == [
        {"step": "1", "a": "1.0", "b": ""},
        {"step": "2", "a": "2.0", "b": "5.0"},
        {"step": "3", "a": "3.0", "b": ""},
    ]
    assert log.last_values() == {"a": 3.0, "b": 5.0}


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path):
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    for path in (whole, broken):
        log = MetricsCsv(path)
        for step in range(3):
            log.log_metrics({"a": step / 3}, step=step)
    resumed = MetricsCsv(broken, keep_steps=2)
    resumed.log_metrics({"a": 2 / 3}, step=2)
    assert broken.read_bytes() == whole.read_bytes()


def test_secrets_are_never_logged():
    config = {
        "logger": {"api_key": "s3cret", "project": "p"},
        "hub": {"token": "s3cret", "hf_token": "s3cret", "password": "s3cret"},
        "data": {"max_prompt_tokens": 32},
    }
    assert flat(config) == {"logger.project": "p", "data.max_prompt_tokens": 32}


@pytest.mark.parametrize("where", ["environment", "netrc", "nowhere"])
def test_api_key_is_found_without_asking(where, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    if where == "netrc":
        netrc.write_text("machine api.wandb.ai\n  login user\n  password " + "x" * 40)
    assert has_api_key() == (where != "nowhere")


def test_without_a_key_a_real_run_is_kept_offline(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    logger = wandb_run(
        name="wandb",
        project="test",
        entity=None,
        mode=None,
        group=None,
        tags=[],
        folder=tmp_path,
        run_name="name",
        job_type="ppo",
        run_id="abcd1234",
        default_group="group",
        x_axis="rollout/episodes",
        config={"algo": {"beta": 0.1}},
    )
    try:
        logger.log_metrics({"rollout/episodes": 8, "rollout/score": 1.0, "epoch": 0}, step=0)
        run = wandb.run
        assert (run.settings.mode, run.group, run.job_type, run.id) == (
            "offline",
            "group",
            "ppo",
            "abcd1234",
        )
        assert dict(run.config) == {"algo.beta": 0.1}
    finally:
        wandb.finish()
        wandb.teardown()  # waits until all is on disk, as the end of a process does
    assert "wandb sync" in sync_command(tmp_path)
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"rollout/score" in record.read_bytes()
