"""Which runs are one configuration, and what configurations are called."""

import os

from harness.comparison.grouping import configurations, differing_keys, names, without_repeats
from harness.comparison.reading import collect
from tests.harness.comparison.synthetic_runs import write_run


def grouped(folder):
    return {c.name: c.seeds for c in configurations(collect([str(folder)])[0])}


def test_runs_that_differ_in_the_seed_and_in_what_shapes_nothing_are_one(tmp_path):
    write_run(tmp_path / "0", seed=2)
    write_run(tmp_path / "1", seed=1, logger={"name": "wandb"}, cache_dir="/elsewhere")
    write_run(tmp_path / "2", seed=1, algo__beta=0.2)
    assert grouped(tmp_path) == {"algo.beta=0.1": [1, 2], "algo.beta=0.2": [1]}


def test_runs_of_the_same_options_on_other_data_are_not_one(tmp_path):
    """A file that has changed between two seeds would make their mean one of two experiments."""
    for seed, content in ((1, "a"), (2, "a"), (3, "b")):
        write_run(tmp_path / f"{seed}", seed=seed, inputs={"data": {"sha256": content}})
    assert sorted(grouped(tmp_path).values()) == [[1, 2], [3]]
    assert all(name.startswith("inputs.data=") for name in grouped(tmp_path))
    # Where an option tells them apart, that one names them.
    write_run(tmp_path / "4", seed=3, inputs={"data": {"sha256": "c"}}, algo__beta=0.2)
    write_run(tmp_path / "apart" / "5", seed=1, inputs={"data": {"sha256": "d"}}, algo__beta=0.3)
    write_run(tmp_path / "apart" / "6", seed=1, inputs={"data": {"sha256": "e"}}, algo__beta=0.4)
    assert sorted(grouped(tmp_path / "apart")) == ["algo.beta=0.3", "algo.beta=0.4"]


def test_one_configuration_is_named_by_its_algorithm(tmp_path):
    write_run(tmp_path / "0")
    assert grouped(tmp_path) == {"algo=ppo": [0]}


def test_names_of_options_come_before_what_follows_from_them():
    base = {"algo.name": "ppo", "algo.lam": 0.95, "algo.epochs": 2, "algo.critic": "copy"}
    other = {"algo.name": "reinforce", "algo.lam": 1.0, "algo.epochs": 1}
    assert names([base, other]) == ["algo=ppo", "algo=reinforce"]
    configs = [{**c, "algo.beta": beta} for c in (base, other) for beta in (0.1, 0.2)]
    assert names(configs) == [
        f"algo={algo}, algo.beta={beta}" for algo in ("ppo", "reinforce") for beta in (0.1, 0.2)
    ]


def test_few_keys_that_differ_together_are_all_named():
    configs = [{"a": 1, "b": x, "c": y} for x, y in ((1, 0.5), (2, 0.25))]
    assert names(configs) == ["b=1, c=0.5", "b=2, c=0.25"]
    assert differing_keys(configs) == ["b", "c"]


def test_absent_options_and_long_values_have_distinct_names():
    assert names([{"a": 1}, {}]) == ["a=1", "no a"]
    assert differing_keys([{"a": None}, {}]) == ["a"]
    long = ["x" * 40 + "1", "x" * 40 + "2", "1" + "x" * 41, "2" + "x" * 41]
    found = names([{"path": value} for value in long])
    assert len(set(found)) == 4
    assert max(map(len, found)) < 50


def test_a_run_made_twice_with_one_seed_counts_once_and_the_latest_does(tmp_path):
    for i, name in enumerate(("old", "new", "other")):
        folder = write_run(tmp_path / name, seed=3 if name != "other" else 4)
        os.utime(folder / "summary.json", (i, i))
    runs, again = without_repeats(collect([str(tmp_path)])[0])
    assert {run.folder.name for run in runs} == {"new", "other"}
    assert [(item.folder.name, "new" in item.reason) for item in again] == [("old", True)]
