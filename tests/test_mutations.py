"""Every bug of the matrix is noticed by a test; a bug that is not is a hole in the tests."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.matrix import NOT_APPLICABLE, ROWS

ROOT = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
# A change that no test of its row can see, one that makes no sense, one for which there is no place
# any more, and one that breaks a fixture: none of them counts as noticed. Nor does one whose test
# fails in any case.
BAD_ROWS = """
import sys
from tests.mutations.mutation import Mutation
from tests.mutations.runner import judge_all, warm_up

def row(old, new, test, target="lightning_modules.objectives.masked:masked_sum"):
    return Mutation(bug="", target=target, old=old, new=new, tests=(test,))

masked = "lightning_modules/objectives/test_masked.py::test_"
rows = [
    row("masked(x, mask).sum(-1)", "x.sum(-1)", masked + "what_is_masked_changes_not_one_bit"),
    row("masked(x, mask).sum(-1)", "x.sum(-1)", masked + "whitened_is_0_where_masked"),
    row("masked(x, mask).sum(-1)", "nonsense", masked + "what_is_masked_changes_not_one_bit"),
    row("no such text", "", masked + "whitened_is_0_where_masked"),
    row("return text", "return text", masked + "whitened_is_0_where_masked", "a.b:c"),
    row("masked(x, mask).sum(-1)", "x.sum(-1)", masked + "no_such_test"),
    row(
        "return ids, mask",
        "assert False",
        "lightning_modules/rollouts/test_collection.py::test_same_noise_same_rollout",
        "datamodules.tokenization.encoder:Encoder.pad",
    ),
    row("masked(x, mask).sum(-1)", "x.sum(-1)", sys.argv[1]),
]
warm_up(row.tests[0] for row in rows[:3])
verdicts, unhealthy = judge_all(rows, 2, lambda *_: None)
print(*(verdict.kind for verdict in verdicts), len(unhealthy))
"""


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )


@needs_fork
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_bug_is_noticed():
    done = run("-m", "tests.mutations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ROWS)} of {len(ROWS)} bugs are noticed" in done.stdout


@needs_fork
def test_only_a_failed_assertion_counts_as_noticing(tmp_path):
    fails = tmp_path / "test_that_fails.py"
    fails.write_text("def test():\n    assert False\n", encoding="utf-8")
    done = run("-c", BAD_ROWS, os.path.relpath(fails, ROOT / "tests"))
    expected = "killed survived broken broken broken broken broken killed 1"
    assert done.stdout.split("\n")[-2:] == [expected, ""], done.stdout + done.stderr


def test_the_table_in_the_docs_has_exactly_these_rows():
    lines = (ROOT / "docs" / "mutations.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split(" | ") for line in lines if line.startswith("| ")]
    of_table = [(row[0].removeprefix("| "), row[1]) for row in cells if row[0] != "| bug"]
    assert of_table == [(row.bug, row.seen) for row in ROWS]
    assert max(Counter(row.bug for row in ROWS).values()) == 1
    listed = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    assert listed == [f"{bug}: {reason}." for bug, reason in NOT_APPLICABLE.items()]
