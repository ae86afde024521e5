"""task=cache: what lies in a cache, and what goes."""

import json
import os
import time

import pytest

from harness.disk.contents import contents, in_units
from harness.disk.own_folders import hold, try_to_hold
from harness.runs.stages import StageCache
from harness.tasks.cache import cache
from lightning_modules.errors import OptionError

SIZES = {"sft": 3000, "reward_model": 5000}


@pytest.fixture
def stages(tmp_path):
    """{name: folder} of two finished stages; a run has used the first one."""
    made = {}
    for name, size in SIZES.items():
        recipe = {"data": {"source": "landmarks"}, "model": {"hub": "org/tiny"}, "name": name}

        def make(folder, size=size):
            (folder / "weights").write_bytes(bytes(size))
            return {}

        made[name] = StageCache(tmp_path / "cache").get(name, recipe, make).path
    run = tmp_path / "outputs" / "runs" / "a"
    run.mkdir(parents=True)
    config = {"model": {"name": "tiny"}, "data": {"name": "mine"}}
    state = {"stages": {"sft": made["sft"].name}, "config": config}
    (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
    return made


@pytest.fixture
def cached(configure, tmp_path):
    """cached(*overrides): what the task returns."""

    def call(*overrides):
        places = (f"cache_dir={tmp_path / 'cache'}", f"runs={tmp_path / 'outputs'}")
        return cache(configure(tmp_path / "x", "task=cache", *places, *overrides))

    return call


def test_what_lies_there_is_listed_within_80_columns(stages, cached, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = cached()
    said = capsys.readouterr().out
    markers = sum((folder / "stage.json").stat().st_size for folder in stages.values())
    assert found == {"stages": 2, "bytes": sum(SIZES.values()) + markers, "removed": 0}
    assert max(map(len, said.splitlines()[:-1])) <= 80
    for name, folder in stages.items():
        assert f"{name}/{folder.name[:8]}" in said
    assert "tiny, mine" in said  # as the run calls them
    assert "org/tiny, landmarks" in said  # of no run: as the recipe does


def test_nothing_goes_before_it_is_said_so(stages, cached, capsys):
    assert cached("clear=all")["removed"] == 0
    assert "dry_run=false" in capsys.readouterr().out
    assert all(contents(folder) for folder in stages.values())
    assert cached("clear=all", "dry_run=false")["removed"] == 2
    assert not any(folder.exists() for folder in stages.values())
    assert cached()["stages"] == 0


@pytest.mark.parametrize(
    ("clear", "gone"),
    [
        ("unused", {"reward_model"}),
        ("sft", {"sft"}),
        ("[sft,reward_model]", {"sft", "reward_model"}),
        ("1d", {"sft"}),
        ("3d", set()),
        ("damaged", {"reward_model"}),
        ("fingerprint", {"sft"}),
    ],
)
def test_what_is_meant_goes_and_nothing_else(clear, gone, stages, cached):
    os.utime(stages["sft"], (time.time() - 2 * 86400,) * 2)
    (stages["reward_model"] / "weights").write_bytes(b"less")
    clear = stages["sft"].name[:6] if clear == "fingerprint" else clear
    assert cached(f"clear={clear}", "dry_run=false")["removed"] == len(gone)
    assert {name for name, folder in stages.items() if not folder.exists()} == gone


@pytest.mark.parametrize("made", [True, False])
def test_what_a_running_process_makes_or_has_used_stays(made, stages, cached, tmp_path, capsys):
    if made:
        lock = try_to_hold(stages["sft"].parent, f"{stages['sft'].name}.lock")
    else:
        lock = hold(tmp_path / "outputs" / "runs" / "a")
    try:
        assert cached("clear=all", "dry_run=false")["removed"] == 1
    finally:
        lock.release()
    assert "a running process uses it" in capsys.readouterr().out
    assert stages["sft"].is_dir()


def test_a_word_that_means_nothing_is_refused(stages, cached):
    for word in ("nothing", "30", "abc"):
        with pytest.raises(OptionError, match=f"clear={word}: must be all, .*reward_model/"):
            cached(f"clear={word}", "dry_run=false")


def test_bytes_are_told_in_units_of_a_thousand():
    told = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_600: "1.0 MB", 34_560_000: "34.6 MB"}
    assert {count: in_units(count) for count in told} == told
