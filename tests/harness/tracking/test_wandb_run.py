import csv
import json
from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf
from PIL import Image

from harness.disk.files import JOB
from harness.tracking.metrics_csv import MetricsCsv
from harness.tracking.names import default_group, flat, run_name, swept_overrides
from harness.tracking.tracker import trackers
from harness.tracking.wandb_account import has_api_key, sync_command
from harness.tracking.wandb_files import steps_on_disk
from lightning_modules.errors import OptionError
from tests.harness.tracking.wandb_log import ended, log_of, logs_of


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
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
        netrc.write_text(
            "machine api.wandb.ai\n  login user\n  password " + "x" * 40, encoding="utf-8"
        )
    assert has_api_key() == (where != "nowhere")


def test_without_a_key_a_real_run_is_kept_offline(real_run, tmp_path):
    logger = real_run("abcd1234")
    logger.log_metrics({"rollout/episodes": 8, "rollout/score": 1.0, "epoch": 0}, step=0)
    assert logger.experiment.settings.mode == "offline"
    ended(logger)
    assert "wandb sync" in sync_command(tmp_path)
    log = log_of(tmp_path, "abcd1234")
    assert (log.run.project, log.run.run_group, log.run.job_type) == ("test", "group", "ppo")
    assert log.rows[0]["rollout/score"] == 1
    assert "epoch" not in log.rows[0]
    assert log.config["algo.beta"] == 0.1


def test_a_stages_run_stands_beside_that_of_the_job_and_has_its_report(real_run, tmp_path):
    job, stage = real_run("abcd1234"), real_run("efgh5678", "reward_model")
    folder = tmp_path / "stage"
    (folder / "report").mkdir(parents=True)
    (folder / "report.md").write_text("# How good it is", encoding="utf-8")
    Image.new("RGB", (4, 4)).save(folder / "report" / "scores.png")
    stage.log_metrics({"train/margin": 1.0}, step=0)
    stage.log_report(folder, {"val/accuracy": 0.75})
    assert stage.experiment.summary["val/accuracy"] == 0.75
    kept = Path(stage.experiment.dir)
    assert (kept / "report.md").read_text(encoding="utf-8") == "# How good it is"
    assert (kept / "report" / "scores.png").is_file()
    stage.experiment.finish()
    # The job's run is still open.
    job.log_metrics({"rollout/kl": 1.0}, step=0)
    ended(job)
    assert "train/margin" in log_of(tmp_path, "efgh5678").rows[0]
    (row,) = log_of(tmp_path, "abcd1234").rows
    assert "train/margin" not in row
    assert row["rollout/kl"] == 1


@pytest.mark.parametrize("name", ["plain", "v[2] a*b?"])
def test_a_report_is_uploaded_from_a_folder_of_any_name(real_run, tmp_path, name):
    (tmp_path / name).mkdir()
    stage = real_run("efgh5678", "reward_model", folder=tmp_path / name)
    folder = tmp_path / "stage"
    (folder / "report").mkdir(parents=True)
    (folder / "report.md").write_text("# How good it is", encoding="utf-8")
    Image.new("RGB", (4, 4)).save(folder / "report" / "scores.png")
    stage.log_report(folder, {})
    ended(stage)
    assert log_of(tmp_path / name, "efgh5678").uploads >= {"report.md", "report/scores.png"}


def test_what_a_killed_process_had_not_written_is_logged_when_its_run_goes_on(real_run, tmp_path):
    """Two rows of W&B's are on the disk, four of metrics.csv, and three steps are in a checkpoint:
    the second one is repeated, and the third is in metrics.csv alone.
    """
    whole = MetricsCsv(tmp_path / "metrics.csv")
    first = real_run("abcd1234")
    for step in range(4):
        row = {"rollout/episodes": 8 * (step + 1), "rollout/score": step / 2}
        whole.log_metrics(row, step)
        if step < 2:
            first.log_metrics(row, step)
    ended(first)
    MetricsCsv(tmp_path / "metrics.csv", keep_steps=3)
    resumed = real_run("abcd1234")
    table = wandb.Table(["answer"], [["Agra"]])
    for step in (1, 3):
        resumed.log_metrics({"rollout/episodes": 0, "samples": table}, step)
    ended(resumed)
    rows = [row for log in logs_of(tmp_path) for row in log.rows]
    assert [row["_step"] for row in rows] == [0, 1, 2, 3]
    assert [row["rollout/episodes"] for row in rows] == [8, 16, 24, 0]
    assert [row.get("rollout/score") for row in rows] == [0, 0.5, 1, None]


def test_a_long_record_is_read_over_the_borders_of_blocks(real_run, tmp_path):
    logger = real_run("abcd1234")
    texts = [letter * 40_000 for letter in "abc"]
    for step, text in enumerate(texts):
        logger.log_metrics({"text": text}, step)
    ended(logger)
    assert [row["text"] for row in log_of(tmp_path, "abcd1234").rows] == texts
    assert steps_on_disk(tmp_path, "abcd1234") == 3
    assert steps_on_disk(tmp_path, "efgh5678") == 0


@pytest.mark.parametrize(("mode", "message"), [("ofline", "must be one of"), ("online", "API key")])
def test_a_mode_that_cannot_be_is_refused(mode, message, real_run):
    with pytest.raises(OptionError, match=f"logger.mode={mode}.*{message}"):
        real_run("abcd1234", mode=mode)


def test_a_disabled_run_leaves_nothing(real_run, tmp_path):
    logger = real_run("abcd1234", mode="disabled")
    logger.log_metrics({"rollout/score": 1.0}, step=0)
    logger.experiment.finish()
    assert logs_of(tmp_path) == []


def test_project_and_entity_come_from_the_config_or_else_the_environment(monkeypatch):
    config = Path(__file__).parents[3] / "conf" / "logger" / "wandb.yaml"
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    chosen = OmegaConf.load(config)
    assert (chosen.project, chosen.entity) == ("rlhf-ladder", None)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    chosen = OmegaConf.load(config)
    assert (chosen.project, chosen.entity) == ("mine", "us")


@pytest.mark.parametrize("wanted", [True, False])
def test_the_model_is_an_artifact_where_it_is_asked_for(wanted, real_run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    logger = real_run("abcd1234", artifacts=wanted)
    for tracker in trackers([logger, MetricsCsv(tmp_path / "metrics.csv")]):
        tracker.log_model(tmp_path)
    ended(logger)
    models = [("model", "model-abcd1234")] if wanted else []
    assert [x for x in log_of(tmp_path, "abcd1234").artifacts if x[0] == "model"] == models


NAMES = {"model": {"name": "llama"}, "data": {"name": "landmarks"}}
CONFIG = NAMES | {"seed": 3, "stage_seed": 0, "stages": {"sft": {}}}


def test_names_are_short_and_say_what_was_swept_over():
    assert run_name(CONFIG, "ppo") == "ppo llama landmarks seed3"
    assert run_name(CONFIG, "sft") == "sft llama landmarks seed0"
    overrides = ["algo=ppo", "seed=3", "algo.optimizer.lr=0.001", "+data.path=/a/long/way/x.jsonl"]
    name = run_name(CONFIG, "ppo", [*overrides, "reward=gold", "logger.project=p"])
    assert name == "ppo llama landmarks seed3 lr=0.001 path=x.jsonl reward=gold"
    assert run_name(CONFIG, "ppo", ["data.path='a/my, file (1)'"]).endswith(" path=my, file (1)")


def test_a_job_belongs_to_its_sweep_and_a_single_run_to_itself(tmp_path):
    job, single = tmp_path / "sweep" / "0", tmp_path / "single"
    for folder in (job, single):
        folder.mkdir(parents=True)
    (job / JOB).write_text(
        json.dumps({"overrides": ["seed=1", "algo.beta=0.1", "algo=ppo"]}), encoding="utf-8"
    )
    assert (default_group(job), default_group(single)) == ("sweep", "single")
    assert swept_overrides(single) == []
    # Of some sweepers it is not known what was asked for.
    assert swept_overrides(job) == ["seed=1", "algo.beta=0.1", "algo=ppo"]
    hydra = {"overrides": {"task": ["seed=1,2", "algo=ppo"]}, "sweeper": {"params": {}}}
    hydra["sweeper"]["params"]["algo.beta"] = "0.1,0.2"
    (tmp_path / "sweep" / "multirun.yaml").write_text(
        json.dumps({"hydra": hydra}), encoding="utf-8"
    )
    assert swept_overrides(job) == ["seed=1", "algo.beta=0.1"]


def test_names_are_made_of_overrides_from_which_a_secret_was_taken(tmp_path):
    told = ["algo.beta=0.1", "+my_token=<secret>", "+x=[<secret>]", "+y={api_key: <secret>}"]
    assert run_name(CONFIG, "ppo", told).startswith("ppo llama landmarks seed3 beta=0.1")
    job = tmp_path / "0"
    job.mkdir()
    (job / JOB).write_text(
        json.dumps({"overrides": ["algo.beta=0.1", "+my_token='<secret>'"]}), encoding="utf-8"
    )
    asked = {"hydra": {"overrides": {"task": ["algo.beta=0.1,0.2", told[1]]}, "sweeper": {}}}
    OmegaConf.save(OmegaConf.create(asked), tmp_path / "multirun.yaml")
    assert swept_overrides(job) == ["algo.beta=0.1"]
