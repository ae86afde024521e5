"""A few kills of tests/kills.py, which takes any number of them as a command."""

import subprocess
import sys

import pytest

from tests.kills import ROOT


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_is_as_if_nothing_had_happened(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--kills", "4", "--seed", "7", "--folder", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert "4 kills: 0 differing cells" in done.stdout, done.stdout + done.stderr
