"""What an offline run leaves for `wandb sync`, read back from its transaction log."""

import csv
import json
import re
from pathlib import Path

import pytest
import wandb

from harness.disk.files import JOB
from harness.tasks.train import train
from lightning_modules.policy import PolicyModule
from tests.harness.tracking.wandb_log import Log, logs_of, read_log

JOBS = {"ppo": ["algo=ppo", "algo.beta=0.1"], "reinforce": ["algo=reinforce", "algo.beta=0.2"]}
GLOSSARY = Path(__file__).parents[3] / "docs" / "metrics.md"
EVERY_ITERATION = ("rollout/", "train/", "time/", "throughput/")


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tracked(configure, own_cache, monkeypatch):
    """tracked(folder, *overrides): a tiny run with W&B, and its logs."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")

    def start(folder: Path, *overrides: str) -> list[Log]:
        world = ("logger=wandb", "callbacks.trace_every=2", f"cache_dir={own_cache}")
        train(configure(folder, *world, *overrides))
        wandb.teardown()  # waits until all is on disk, as the end of a process does
        return logs_of(folder)

    return start


@pytest.fixture(scope="module")
def done() -> dict[str, tuple[Path, list[Log]]]:
    return {}


@pytest.fixture
def jobs(done, tracked, tmp_path_factory) -> dict[str, tuple[Path, list[Log]]]:
    """The folder and the logs of two jobs of a sweep, one after the other in this process. The
    first makes the stages, which the second finds.
    """
    if not done:
        sweep = tmp_path_factory.mktemp("sweeps") / "my_sweep"
        asked = ["algo=ppo,reinforce", "algo.beta=0.1,0.2", "model=llama"]
        hydra = {"overrides": {"task": asked}, "sweeper": {"params": None}}
        for number, (algorithm, overrides) in enumerate(JOBS.items()):
            folder = sweep / f"{number}_{algorithm}"
            folder.mkdir(parents=True)
            (sweep / "multirun.yaml").write_text(json.dumps({"hydra": hydra}), encoding="utf-8")
            (folder / JOB).write_text(
                json.dumps({"overrides": [*overrides, "model=llama"]}), encoding="utf-8"
            )
            done[algorithm] = folder, tracked(folder, *overrides)
    return done


def glossary() -> set[str]:
    """The metrics of a policy that docs/metrics.md promises for every iteration."""
    text = GLOSSARY.read_text(encoding="utf-8").split("## Reward models")[0]
    return {
        name for name in re.findall(r"`([a-z_]+/\w+)`", text) if name.startswith(EVERY_ITERATION)
    }


def rows_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def numbers(row: dict) -> dict[str, float]:
    """What of a W&B row is a metric, by its name in metrics.csv."""
    families = (*EVERY_ITERATION, "val/", "reference/")
    found = {k: float(v) for k, v in row.items() if k.startswith(families)}
    return found | {"step": row["_step"] + 1}


@pytest.mark.parametrize("algorithm", JOBS)
def test_an_offline_log_is_complete(algorithm, jobs):
    folder, logs = jobs[algorithm]
    log, expected = logs[-1], rows_of(folder)
    assert log.finished
    assert len(expected) == 4
    assert [numbers(row) for row in log.rows] == [pytest.approx(r, nan_ok=True) for r in expected]
    assert all(glossary() <= row.keys() for row in log.rows)


@pytest.mark.parametrize("algorithm", JOBS)
def test_episodes_are_the_x_axis_and_the_best_values_are_kept(algorithm, jobs):
    folder, logs = jobs[algorithm]
    log, rows = logs[-1], rows_of(folder)
    assert log.metrics["*"].step_metric == "rollout/episodes"
    assert log.summary["rollout/episodes"] == 32
    for name in ("val/score", "val/reward", "val/gold", "val/win_rate"):
        values = [row[name] for row in rows if name in row]
        assert log.metrics[name].step_metric == "rollout/episodes"
        assert log.summary[name] == pytest.approx({"last": values[-1], "max": max(values)})


def test_a_supervised_stage_is_a_run_with_steps_of_its_own(jobs):
    _, logs = jobs["ppo"]
    (stage,) = (log for log in logs if log.run.job_type == "sft")
    losses = [row["val/loss"] for row in stage.rows if "val/loss" in row]
    assert stage.summary["val/loss"] == pytest.approx({"last": losses[-1], "min": min(losses)})
    assert [row["_step"] for row in stage.rows] == list(range(len(stage.rows)))
    assert not any(metric.step_metric for metric in stage.metrics.values())
    assert not any("rollout/score" in row for row in stage.rows)


def test_tables_grow_and_what_a_log_names_is_there(jobs):
    folder, logs = jobs["ppo"]
    log = logs[-1]
    for key, count, local in (
        ("samples", 2, "samples.jsonl"),
        ("trace/tokens", 3, "traces.jsonl"),
        ("trace/advantages", 3, None),
    ):
        files = [log.files / row[f"{key}/path"] for row in log.rows if f"{key}/path" in row]
        assert len(files) == count, key
        assert all(file.is_file() for file in files)
        if local:
            sizes = [len(json.loads(file.read_text(encoding="utf-8"))["data"]) for file in files]
            assert sizes == sorted(set(sizes))
            assert sizes[-1] == len((folder / local).read_text(encoding="utf-8").splitlines())


def test_the_config_is_whole_and_flat(jobs):
    for folder, logs in jobs.values():
        config = logs[-1].config
        saved = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
        assert {key: config.get(key, "missing") for key in leaves(saved)} == leaves(saved)
        assert config["versions.torch"].startswith("2.")
        assert {"versions.python", "versions.wandb", "commit", "devices.name"} <= config.keys()


def leaves(tree: dict, prefix: str = "") -> dict:
    """A nested config by dotted keys."""
    result = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        result |= leaves(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result


def test_jobs_of_a_sweep_are_finished_runs_of_one_group_with_names_of_their_own(jobs):
    every = [log.run for _, logs in jobs.values() for log in logs]
    assert [run.job_type for run in every] == ["sft", "reward_model", "ppo", "reinforce"]
    assert [run.display_name for run in every] == [
        "sft llama landmarks seed0",
        "reward_model llama landmarks seed0",
        "ppo llama landmarks seed0 beta=0.1",
        "reinforce llama landmarks seed0 beta=0.2",
    ]
    assert {run.run_group for run in every} == {"my_sweep"}
    assert len({run.run_id for run in every}) == 4
    assert all(log.finished for _, logs in jobs.values() for log in logs)
    assert {"ppo", "llama", "landmarks", "learned"} == set(every[2].tags)


def test_a_run_resumed_after_a_power_cut_has_every_step_once(tracked, tmp_path, monkeypatch):
    options = ("algo=reinforce", "callbacks.checkpoint.every_n_epochs=2")
    collect = PolicyModule.collect

    def stop(self, batch):
        if self.current_epoch == 3:
            raise RuntimeError("power cut")
        return collect(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyModule, "collect", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            tracked(tmp_path, *options)
    wandb.teardown()
    path = next(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [row["_step"] for row in read_log(path).rows] == [0, 1, 2]
    while len(read_log(path).rows) > 1:  # the rest was never on the disk
        path.write_bytes(path.read_bytes()[:-100])
    assert [row["_step"] for row in read_log(path).rows] == [0]
    logs = tracked(tmp_path, *options, "resume=auto")
    assert len(logs) == 2
    assert len({(log.run.run_id, log.run.display_name, log.run.run_group) for log in logs}) == 1
    assert [log.finished for log in logs] == [False, True]
    rows = [numbers(row) for log in logs for row in log.rows]
    expected = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row, local in zip(rows, expected, strict=True):
        steady = {k: v for k, v in local.items() if not k.startswith(("time/", "throughput/"))}
        assert {k: row[k] for k in steady} == pytest.approx(steady, nan_ok=True)
