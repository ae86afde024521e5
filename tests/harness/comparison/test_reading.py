"""Which folders are runs, which of them count, and what is read of them."""

import json

import numpy as np
import pytest

from datamodules.records import DataError
from harness.comparison.reading import collect, read_curves
from tests.harness.comparison.synthetic_runs import EPISODES, write_run


def reasons(left_out) -> dict[str, str]:
    return {item.folder.name: item.reason for item in left_out}


def test_runs_are_found_below_folders_by_globs_and_once(tmp_path):
    write_run(tmp_path / "sweeps" / "a" / "0_ppo", seed=1)
    write_run(tmp_path / "sweeps" / "a" / "10_ppo", seed=3)
    write_run(tmp_path / "sweeps" / "a" / "2_ppo", seed=2)
    write_run(tmp_path / "sweeps" / "b" / "0_ppo", seed=4)
    seeds = lambda *patterns: [run.seed for run in collect(patterns)[0]]  # noqa: E731
    assert seeds(str(tmp_path)) == [1, 2, 3, 4]
    assert seeds(str(tmp_path / "sweeps" / "b")) == [4]
    assert seeds(str(tmp_path / "sweeps" / "a" / "0_ppo")) == [1]
    assert seeds(str(tmp_path / "sweeps" / "*" / "0_*")) == [1, 4]
    assert seeds(str(tmp_path / "sweeps" / "b"), str(tmp_path / "sweeps" / "b" / "0_ppo")) == [4]


def test_a_folder_that_exists_is_no_glob(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_run(tmp_path / "v[2]" / "r*n", seed=1)
    write_run(tmp_path / "v2" / "run", seed=2)
    seeds = lambda pattern: [run.seed for run in collect([pattern])[0]]  # noqa: E731
    assert seeds(f"{tmp_path}/v[2]") == seeds("~/v[2]") == seeds(f"{tmp_path}/v[2]/r*n") == [1]
    assert seeds(f"{tmp_path}/v[0-9]") == [2]


def test_what_is_no_finished_policy_run_is_named_with_the_reason(tmp_path):
    write_run(tmp_path / "good")
    write_run(tmp_path / "stopped", finished=False)
    for name in ("train", "compare"):
        (tmp_path / f"{name}_refused" / ".hydra").mkdir(parents=True)
        text = f"task:\n  _target_: harness.{name}.{name}\n"
        (tmp_path / f"{name}_refused" / ".hydra" / "config.yaml").write_text(text, encoding="utf-8")
    write_run(tmp_path / "judge", task={"_target_": "harness.evaluate.evaluate"})
    write_run(tmp_path / "rm", summary={"val/score": None})
    failed = write_run(tmp_path / "failed", finished=False)
    (failed / "failed.json").write_text('{"error": "algo.gamma=2: too much"}', encoding="utf-8")
    damaged = write_run(tmp_path / "damaged")
    with open(damaged / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("5,16")
    torn = write_run(tmp_path / "torn")
    (torn / "summary.json").write_text('{"algo": "pp', encoding="utf-8")
    runs, left_out = collect([str(tmp_path)])
    assert [run.folder.name for run in runs] == ["good"]
    found = reasons(left_out)
    assert set(found) == {"stopped", "train_refused", "judge", "rm", "failed", "damaged", "torn"}
    assert "not finished" in found["stopped"]
    assert found["failed"] == "failed: algo.gamma=2: too much"
    assert "before it began" in found["train_refused"]
    assert "no training run" in found["judge"]
    assert "no policy run" in found["rm"]
    assert "metrics.csv, row 6" in found["damaged"]
    assert "summary.json" in found["torn"]


def test_a_skipped_job_stands_for_the_run_that_it_names(tmp_path):
    write_run(tmp_path / "first" / "0_ppo", seed=7)
    for name, target in (("0_ppo", tmp_path / "first" / "0_ppo"), ("1_ppo", tmp_path / "gone")):
        (tmp_path / "again" / name).mkdir(parents=True)
        text = json.dumps({"run": str(target)})
        (tmp_path / "again" / name / "skipped.json").write_text(text, encoding="utf-8")
    runs, left_out = collect([str(tmp_path / "again")])
    assert [run.seed for run in runs] == [7]
    assert "gone, which is not there" in reasons(left_out)["1_ppo"]
    assert len(collect([str(tmp_path)])[0]) == 1  # the run itself and what stands for it are one


def test_what_lies_within_a_run_or_a_comparison_is_no_run(tmp_path):
    run = write_run(tmp_path / "0_ppo", seed=1)
    write_run(run / "earlier-1", seed=2)
    (write_run(tmp_path / "compared", seed=3) / "comparison.md").write_text("", encoding="utf-8")
    write_run(tmp_path / "own", seed=4)
    runs, left_out = collect([str(tmp_path)], own=tmp_path / "own")
    assert [r.seed for r in runs] == [1]
    assert not left_out


def test_nothing_to_compare_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DataError, match=r"runs=.*nowhere: no such folder"):
        collect([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match=r"given as a list, 'runs=\[one,two\]'$"):
        collect(["one,two"])
    write_run(tmp_path / "stopped", finished=False)
    with pytest.raises(DataError, match=r"(?s)no finished policy run in 1.*stopped: not finished"):
        collect([str(tmp_path)])


def test_curves_have_the_episodes_and_seconds_of_their_rows(tmp_path):
    folder = write_run(tmp_path / "run", scores=(0.25, 0.5, 0.75))
    curves = read_curves(folder / "metrics.csv", ("val/score", "rollout/entropy", "val/gold"))
    assert set(curves) == {"val/score", "rollout/entropy"}
    score = curves["val/score"]
    assert score.values.tolist() == [0.25, 0.5, 0.75]
    assert score.episodes.tolist() == [2 * EPISODES, 4 * EPISODES, 6 * EPISODES]
    assert score.seconds.tolist() == [2, 4, 6]
    np.testing.assert_allclose(curves["rollout/entropy"].values, 1 / np.arange(1, 7))


def test_undefined_values_are_no_points_of_a_curve(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,rollout/episodes,val/score\n1,8,nan\n2,16,\n3,24,0.5\n", encoding="utf-8")
    curve = read_curves(path, ("val/score",))["val/score"]
    assert (curve.episodes.tolist(), curve.values.tolist()) == ([24], [0.5])
