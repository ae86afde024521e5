"""What W&B finds in the environment: the account is used, what is of other runs is not."""

import os
import sys

import pytest

from harness.tracking.wandb_account import FOREIGN, chosen_mode, has_api_key, own_surroundings
from harness.tracking.wandb_files import records
from lightning_modules.errors import OptionError
from tests.harness.tracking.wandb_log import ended, log_of


@pytest.mark.parametrize(
    ("around", "mode"),
    [("dryrun", "offline"), (" Offline ", "offline"), ("disabled", "disabled"), ("", "offline")],
)
def test_modes_as_wandb_calls_them(around, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", around)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert chosen_mode(None) == mode


def test_a_mode_that_wandb_does_not_know_is_named(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "garbage")
    with pytest.raises(OptionError, match="WANDB_MODE=garbage"):
        chosen_mode(None)
    assert chosen_mode("offline") == "offline"


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("x" * 40, True),
        ("local-" + "x" * 40, True),
        ("x" * 86, True),
        (" " + "x" * 40 + "\n", True),
        ("x" * 39, False),
        ("<your key here, forty characters or more>", False),
    ],
)
def test_a_key_of_another_shape_is_none(key, good, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert has_api_key() == good
    if not good:
        with pytest.raises(OptionError, match="40 characters"):
            chosen_mode("online")


def test_a_run_is_itself_among_variables_of_others(real_run, tmp_path, monkeypatch):
    around = dict.fromkeys(FOREIGN, "other")
    around |= {
        "WANDB_SERVICE": "3-1-tcp-localhost-1",
        "WANDB_RUN_ID": "a/b",
        "WANDB_FORK_FROM": "x",
    }
    for name, value in (around | {"WANDB_API_KEY": " short "}).items():
        monkeypatch.setenv(name, value)
    job, stage = real_run("abcd1234"), real_run(None, "sft")
    assert {name: os.environ[name] for name in around if name != "WANDB_SERVICE"} == {
        name: value for name, value in around.items() if name != "WANDB_SERVICE"
    }
    ended(job, stage)
    log = log_of(tmp_path, "abcd1234")
    assert (log.run.project, log.run.run_group, log.run.display_name) == ("test", "group", "name")
    assert not log.run.sweep_id
    assert stage.experiment.id not in ("a/b", "abcd1234")


def test_no_secret_of_the_command_line_is_written_down(real_run, tmp_path, monkeypatch):
    typed = ["run.py", "+my_token=s3cretvalue", "algo.beta=0.25", "+x={apiKey: s3cretvalue}"]
    monkeypatch.setattr(sys, "argv", list(typed))
    config = {"my_token": "s3cretvalue", "algo": {"beta": 0.25}}
    ended(real_run("abcd1234", config=config))
    assert sys.argv == typed
    (log,) = tmp_path.rglob("*.wandb")
    (told,) = [list(r.environment.args) for r in records(log) if r.environment.args]
    assert told == ["+my_token='<secret>'", "algo.beta=0.25", "+x={apiKey: '<secret>'}"]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"s3cretvalue" not in file.read_bytes(), file


def test_the_command_line_comes_back_after_a_failure(monkeypatch):
    typed = ["run.py", "+my_token=abc"]
    monkeypatch.setattr(sys, "argv", typed)
    with pytest.raises(ZeroDivisionError), own_surroundings():
        raise ZeroDivisionError
    assert sys.argv is typed
