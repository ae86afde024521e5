"""What the process of a sweep does; jobs in processes of their own are in tests/test_run.py."""

import contextlib
import json
import logging
import os
from unittest import mock

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.disk.files import JOB, write_json
from harness.sweeps.job import JobOutput
from harness.sweeps.sweep import Sweep, refusal, update_job

ONE_DEVICE = {"name": "cpu", "devices": 1, "strategy": "auto"}


@pytest.fixture(autouse=True)
def own_environment():
    """What a sweep says to the processes that it starts ends with the test."""
    with mock.patch.dict(os.environ):
        yield


def settings(folder, hardware=ONE_DEVICE, objective="val/score", named=True):
    return OmegaConf.create(
        {
            "hardware": hardware,
            "sweep": {"resume": True, "objective": objective},
            "hydra": {
                "sweep": {"dir": str(folder)},
                "runtime": {"choices": {"hydra/launcher": "basic"}},
                "overrides": {"hydra": [f"hydra.sweep.dir={folder}"] * named},
            },
        }
    )


def started(folder) -> Sweep:
    sweep = Sweep()
    sweep.on_multirun_start(settings(folder))
    return sweep


def add_job(sweep, number, status, value=None, run=None, **fields):
    folder = sweep.folder / f"{number}_ppo"
    folder.mkdir(parents=True)
    overrides = ["model=llama", f"seed={number}"]
    job = {"sweep": sweep.id, "number": number, "status": status, "run": str(run or folder)}
    write_json(folder / JOB, job | {"overrides": overrides, "value": value} | fields)
    return folder


@pytest.mark.parametrize("devices", [1, "1", [3]])
def test_jobs_of_one_device_are_accepted(devices, tmp_path):
    assert refusal(settings(tmp_path, ONE_DEVICE | {"devices": devices})) is None


@pytest.mark.parametrize(
    "hardware",
    [{"name": "ddp", "devices": "auto"}, {"devices": 2}, {"devices": [0, 1]}, {"num_nodes": 2}],
)
def test_a_sweep_of_several_devices_ends_before_it_begins(hardware, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        Sweep().on_multirun_start(settings(tmp_path / "sweep", ONE_DEVICE | hardware))
    assert "start the whole sweep again" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(("objective", "accepted"), [("score", 0), ("val/gold", 1), (None, 1)])
def test_an_objective_has_the_form_of_a_name_in_the_summary(objective, accepted, tmp_path):
    reason = refusal(settings(tmp_path, objective=objective))
    assert (reason is None) == accepted


def test_a_failed_job_is_named_with_its_error_and_folder_and_the_exit_code_is_1(tmp_path, capsys):
    sweep = started(tmp_path)
    add_job(sweep, 10, "done", 0.25)
    folder = add_job(sweep, 2, "failed")
    update_job(folder, error="algo.beta=-1: must be at least 0 [or null]")
    with pytest.raises(SystemExit, match="1"):
        sweep.on_multirun_end(settings(tmp_path))
    text = capsys.readouterr().out
    assert "job 2 failed: algo.beta=-1: must be at least 0 [or null]" in text
    assert str(folder) in text
    assert "0.2500" in text
    assert text.index("seed=2") < text.index("seed=10"), "in the order of their numbers"
    assert "model=llama" not in text, "what all jobs share is left out"


def test_a_job_without_its_result_is_no_success(tmp_path, capsys):
    sweep = started(tmp_path)
    add_job(sweep, 0, "done", 1.0)
    add_job(sweep, 1, "stopped")
    with pytest.raises(SystemExit, match="1"):
        sweep.on_multirun_end(settings(tmp_path))
    assert "job 1 was stopped before" in capsys.readouterr().out


def test_runs_of_before_are_success_and_are_said_where_they_are(tmp_path, capsys):
    sweep = started(tmp_path / "sweep")
    add_job(sweep, 0, "done", 1.0)
    add_job(sweep, 1, "skipped", 2.0, run=tmp_path / "earlier")
    add_job(sweep, 2, "continued", 3.0, run=tmp_path / "killed")
    sweep.on_multirun_end(settings(tmp_path))
    text = " ".join(capsys.readouterr().out.split())  # however its lines are broken
    assert f"job 1 was finished before: {tmp_path / 'earlier'}" in text
    assert f"job 2 was continued: {tmp_path / 'killed'}" in text


def test_jobs_of_another_sweep_in_the_same_folder_do_not_count(tmp_path, capsys):
    earlier = started(tmp_path)
    add_job(earlier, 0, "stopped")
    earlier._report()
    earlier.lock.release()
    capsys.readouterr()
    sweep = started(tmp_path)
    add_job(sweep, 1, "done", 1.0)
    sweep.on_multirun_end(settings(tmp_path))
    text = capsys.readouterr().out
    assert "1_ppo" in text
    assert "0_ppo" not in text


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '"text"', '{"sweep": 1}'])
def test_a_damaged_record_of_an_earlier_sweep_harms_no_other(text, tmp_path, capsys):
    sweep = started(tmp_path)
    (tmp_path / "9_damaged").mkdir()
    (tmp_path / "9_damaged" / JOB).write_text(text, encoding="utf-8")
    add_job(sweep, 0, "done", 1.0)
    sweep.on_multirun_end(settings(tmp_path))
    assert "9_damaged" not in capsys.readouterr().out


def test_two_sweeps_of_one_name_have_folders_of_their_own(tmp_path):
    """Names are by the second, and two sweeps may start in one."""
    sweeps = [Sweep() for _ in range(3)]
    configs = [settings(tmp_path / "now", named=False) for _ in sweeps]
    for sweep, config in zip(sweeps, configs, strict=True):
        sweep.on_multirun_start(config)
    folders = [sweep.folder for sweep in sweeps]
    assert [folder.name for folder in folders] == ["now", "now-2", "now-3"]
    # The jobs compose their configs anew, from the overrides.
    parser = OverridesParser.create()
    for folder, config in zip(folders, configs, strict=True):
        (override,) = parser.parse_overrides(list(config.hydra.overrides.hydra))
        assert (override.key_or_group, override.value()) == ("hydra.sweep.dir", str(folder))


def test_two_sweeps_in_a_folder_that_was_named_are_one_too_many(tmp_path, capsys):
    first = started(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        started(tmp_path)
    assert "another process is running in it" in capsys.readouterr().err
    first.lock.release()
    assert started(tmp_path).lock.is_locked


def test_the_table_is_printed_once(tmp_path, capsys):
    sweep = started(tmp_path)
    add_job(sweep, 0, "done", 1.0)
    sweep.on_multirun_end(settings(tmp_path))
    capsys.readouterr()
    sweep._report()
    assert capsys.readouterr().out == ""


def test_a_job_is_updated_in_place(tmp_path):
    write_json(tmp_path / JOB, {"number": 3, "status": "stopped", "value": None})
    update_job(tmp_path, status="done", value=2.0)
    job = json.loads((tmp_path / JOB).read_text(encoding="utf-8"))
    assert job == {"number": 3, "status": "done", "value": 2.0}


def test_what_a_library_logs_goes_to_the_job_in_hand_and_not_to_an_earlier_ones(tmp_path):
    """A logging handler keeps the stream that it met at import, of whichever job that was."""
    output = JobOutput()
    with (
        open(tmp_path / "first", "w", encoding="utf-8") as output.file,
        contextlib.redirect_stderr(output),
    ):
        handler = logging.StreamHandler()
        print("first job", file=handler.stream)
    record = logging.makeLogRecord({"msg": "of the library"})
    with open(tmp_path / "second", "w", encoding="utf-8") as output.file:
        handler.emit(record)
    output.file = None
    handler.emit(record)  # no job in hand: the terminal, and no error of a closed file
    assert (tmp_path / "first").read_text(encoding="utf-8") == "first job\n"
    assert (tmp_path / "second").read_text(encoding="utf-8") == "of the library\n"
