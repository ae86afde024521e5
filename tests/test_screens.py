"""On a real terminal of any width nothing is squeezed out and no word is broken."""

import subprocess
import sys

import pytest
from rich.cells import cell_len

from tests.screens import RUN, has_tmux, screen_of, words_of

pytestmark = pytest.mark.skipif(not has_tmux(), reason="needs tmux")
TINY = (
    "budget=smoke",
    "logger=none",
    "hardware=cpu",
    "data.train_demonstrations=96",
    "data.train_pairs=96",
    "data.val_pairs=48",
    "algo.iterations=2",
    "algo.prompts_per_iteration=8",
    "algo.val_prompts=8",
    "cache_dir=cache",
)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_a_whole_run_fits_and_shows_all_that_its_log_has(columns, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()  # both widths share the stages
    place = f"screen-{columns}"
    typed = (*TINY, f"hydra.run.dir={place}")
    screen = screen_of([sys.executable, str(RUN), *typed], columns, folder)
    assert screen.status == 0, screen.lines
    assert all(cell_len(line) <= columns for line in screen.lines)
    log = (folder / place / "run.log").read_text(encoding="utf-8").splitlines()
    assert words_of(screen.lines) == words_of(log[1:])  # the first one says what was typed


def test_an_error_fits_as_well(tmp_path):
    command = [sys.executable, str(RUN), *TINY, "resume=outputs/of/another/day", "algo.lam=2"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    screen = screen_of(command, 50, tmp_path)
    assert screen.status == told.returncode == 1
    assert all(cell_len(line) <= 50 for line in screen.lines)
    assert " ".join(screen.lines).split() == told.stderr.split()
