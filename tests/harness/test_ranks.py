"""Which process this is agrees with Lightning, whose launchers say so."""

import os
import subprocess
import sys

import pytest

CODE = """
from harness.ranks import this_rank
before = this_rank()
from lightning_fabric.utilities.rank_zero import _get_rank
print(before, _get_rank() or 0, this_rank())
"""


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"SLURM_PROCID": "2"}, 2),
        ({"JSM_NAMESPACE_RANK": "4"}, 4),
    ],
)
def test_the_rank_is_lightnings_before_and_after_it_is_imported(variables, rank):
    known = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    environment = {k: v for k, v in os.environ.items() if k not in known} | variables
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == [str(rank)] * 3
