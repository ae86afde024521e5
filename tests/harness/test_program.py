"""The program called from Python; what it does as a command line is in tests/test_run.py."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from harness.errors import DataError, OptionError
from harness.program import run
from run import main

ROOT = Path(__file__).parents[2]


def test_a_call_returns_the_summary_and_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(sys.argv), dict(os.environ)
    summary = run(
        "algo=sft",
        *("data.train_demonstrations=64", "data.train_pairs=48", "data.val_pairs=24"),
        *("algo.epochs=1", "model.vocab_size=400", "logger=none"),
    )
    folder = Path(summary["folder"])
    assert folder.is_relative_to(tmp_path / "outputs" / "runs")
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == summary
    assert sys.argv == before[0]
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    ("overrides", "error", "told"),
    [
        (["algo.iterations=0"], OptionError, "algo.iterations=0"),
        (["data=files", "data.path=nowhere.jsonl"], DataError, "nowhere.jsonl"),
        (["hardware=ddp"], OptionError, "hardware.devices=1"),
        (["-m", "seed=1,2"], OptionError, "loop"),
        (["--help"], OptionError, "no flags"),
        ([["algo=ppo"]], OptionError, "takes texts"),
    ],
)
def test_what_ends_the_command_line_is_raised(overrides, error, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=told):
        run(*overrides)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_script_is_installed_under_its_name():
    """From any folder: in the environment of these tests, or in a wheel made of this checkout."""
    scripts = entry_points(group="console_scripts", name="rlhf-ladder")
    if not scripts:
        pytest.skip("rlhf-ladder is not installed in this environment")
    assert {script.load() for script in scripts} == {main}


def test_a_version_is_told_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.startswith("rlhf-ladder 0.")
