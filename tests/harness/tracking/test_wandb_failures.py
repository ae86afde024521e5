"""A W&B that fails costs no training: it is said once, and the run goes on."""

import os
import signal

import wandb

from tests.harness.tracking.wandb_log import ended, logs_of


def test_what_cannot_begin_online_goes_on_offline(real_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    init = wandb.init

    def no_network(**options):
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return init(**options)

    monkeypatch.setattr(wandb, "init", no_network)
    logger = real_run("abcd1234", mode="online")
    ended(logger)
    assert capsys.readouterr().err == "warning: W&B cannot begin online: no route to host\n"
    assert len(logs_of(tmp_path)) == 1


def test_what_cannot_begin_at_all_gets_nothing(real_run, monkeypatch, capsys):
    def full(**options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", full)
    assert real_run("abcd1234") is None
    said = capsys.readouterr().err
    assert said.count("warning: W&B gets nothing of this run") == 1
    assert said.count("cannot begin offline") == 2
    assert "No space left" in said


def test_a_service_that_dies_is_said_once(real_run, tmp_path, capsys):
    logger = real_run("abcd1234")
    logger.log_metrics({"a": 1.0}, step=0)
    os.kill(wandb.setup()._connection._proc._process.pid, signal.SIGKILL)
    for step in range(1, 200):
        logger.log_metrics({"a": 1.0}, step=step)
    logger.log_media(200, tables={"t": [{"a": 1}]})
    logger.log_model(tmp_path)
    logger.finish()
    assert logger.failed
    assert capsys.readouterr().err.count("warning: W&B failed and gets no more") == 1


def test_one_failure_is_enough(real_run, monkeypatch, capsys):
    logger = real_run("abcd1234")
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise RuntimeError("broken pipe")

    monkeypatch.setattr(logger.experiment, "log", fail)
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step=step)
    assert len(calls) == 1
    said = capsys.readouterr().err
    assert said == "warning: W&B failed and gets no more of this run: broken pipe\n"
