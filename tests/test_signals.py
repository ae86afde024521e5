"""SIGTERM and ctrl-c wherever a run stands: what it says, its exit code, what comes of it after."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.kills import ENDS, ROOT, differing, load_libraries
from tests.kills import run as start

SFT = "lightning_modules.sft.SFT.losses"
REWARD_MODEL = "lightning_modules.reward_model.RewardModel.losses"
REPORT = "harness.pipeline.fitting.judge_held_out"
SAMPLING = "lightning_modules.ppo.PPO.weigh"  # all is sampled, scored and shaped then
UPDATE = "lightning_modules.ppo.PPO.token_loss"
EVALUATION = "lightning_modules.metrics.evaluation.Evaluation.step"
# One run, stopped and resumed again and again: at the n-th call of a function, by which signal,
# what it says then. A step of SFT or a reward model has one call here, an epoch three; before them
# MEASURED calls tell how much memory a step takes.
MEASURED = 4
STOPS = [
    (SFT, MEASURED + 3, "TERM", "sft up to step 2 of 6"),
    (SFT, MEASURED + 2, "INT", "sft up to step 3 of 6"),  # in the evaluation after it
    (SFT, MEASURED + 3, "TERM", "sft up to step 4 of 6"),
    (REWARD_MODEL, MEASURED + 1, "INT", "nothing of reward_model yet"),
    (REWARD_MODEL, MEASURED + 2, "TERM", "reward_model up to step 1 of 3"),
    (REPORT, 1, "INT", "reward_model up to step 3 of 3"),
    (SAMPLING, 2, "TERM", "ppo up to iteration 1 of 4"),
    (EVALUATION, 1, "INT", "ppo up to iteration 2 of 4"),
    (UPDATE, 3, "TERM", "ppo up to iteration 3 of 4"),
]
BUDGET = (
    "stages.sft.batch_size=32",
    "stages.reward_model.batch_size=32",
    "algo.iterations=4",
    "algo.evaluate_every=2",
    "callbacks.checkpoint.every_n_epochs=100",
)


def send_at(place: str, call: int, number: int) -> None:
    """Send this process a signal at a call of a function."""
    import pkgutil

    owner, name = place.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner)
    function = getattr(owner, name)
    calls = 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    setattr(owner, name, counted)


@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_is_as_one_that_never_was(tmp_path):
    load_libraries()
    assert start(tmp_path / "whole", *BUDGET)[0] == 0
    broken = tmp_path / "broken"
    for place, call, name, kept in STOPS:
        number, end = ENDS[name]
        status, _, printed = start(
            broken, *BUDGET, "resume=auto", setup=partial(send_at, place, call, number)
        )
        assert status == end, printed
        assert "Traceback" not in printed
        (line,) = re.findall("stopped by .* goes on$", " ".join(printed.split()))
        by = {"TERM": "SIGTERM", "INT": "ctrl-c"}[name]
        how = f"the same command with resume={broken}/run goes on"
        assert line == f"stopped by {by}; kept: {kept}; {how}"
    status, _, printed = start(broken, *BUDGET, "resume=auto")
    assert status == 0, printed
    assert differing(tmp_path / "whole", broken) == []


def command(*overrides: str, folder: Path) -> subprocess.Popen:
    """A process of its own, which ctrl-c reaches whatever started these tests."""
    return subprocess.Popen(
        [sys.executable, ROOT / "run.py", *overrides],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_while_all_is_imported_it_ends_as_at_any_time(name, tmp_path):
    number, end = ENDS[name]
    process = command("hydra.run.dir=run", folder=tmp_path)
    time.sleep(0.5)
    process.send_signal(number)
    printed, _ = process.communicate()
    assert process.returncode == end, printed
    assert printed.startswith("stopped")
    assert "Traceback" not in printed


def test_the_second_signal_does_not_wait():
    """For what would not end by itself; one that comes twice in a moment is one signal."""
    code = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from harness.signals import finish_first, listen
listen()
finish_first("the rest")
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import signal as s; s.signal(s.SIGINT, s.default_int_handler)\n" + code,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 130
    first, second = done.stdout.splitlines()
    assert first == "SIGTERM: finishing the rest; again: stop at once"
    assert second.startswith("stopped at once by ctrl-c")


def test_a_signal_that_python_drops_comes_again():
    """As in the callbacks of weak references that imports have."""
    code = """
import os, signal, sys, time, weakref
from harness.signals import Stopped, listen
class Thing: pass
listen()
thing = Thing()
kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
try:
    del thing
    time.sleep(20)
except Stopped as stop:
    sys.exit(stop.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert (done.returncode, done.stderr) == (143, "")
