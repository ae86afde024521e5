"""One full disk and one limit of tests/full_disks.py, which tries many as a command."""

import subprocess
import sys

import pytest

from tests.kills import ROOT


@pytest.mark.slow
def test_a_run_on_a_disk_that_fills_up_ends_with_one_line_and_goes_on_later(tmp_path):
    options = ("--folder", tmp_path, "--disks", "12m", "--largest-files", "100000")
    done = subprocess.run(
        [sys.executable, "-m", "tests.full_disks", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert "full disks: 0 differences" in done.stdout, done.stdout + done.stderr
    assert "exit 1 error: " in done.stdout
