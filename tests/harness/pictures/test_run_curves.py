"""The curves of one training: what is there is drawn, in its units, from its start."""

import math
import re
from pathlib import Path

import pytest

from harness.pictures.drawing import drawn
from harness.pictures.panels import AT_START, POLICY, REWARD, SUPERVISED
from harness.pictures.run_curves import curve, draw_run, shown_panels

METRICS = Path(__file__).parents[3] / "docs" / "metrics.md"

ROWS = [
    {"step": 1, "rollout/episodes": 8, "rollout/score": 0.5, "train/clip_fraction": 0.0},
    {
        "step": 2,
        "rollout/episodes": 16,
        "rollout/score": math.nan,
        "val/score": 1.0,
        "val/kl": 0.0,
        "reference/score": -1.0,
    },
    {"step": 3, "rollout/episodes": 24, "val/score": "2.5", "val/win_rate": ""},
]


def test_held_out_curves_begin_with_the_reference_and_others_where_they_were_logged():
    assert curve(ROWS, "val/score") == ([0, 16, 24], [-1, 1, 2.5])
    assert curve(ROWS, "val/kl") == ([0, 16], [0, 0])
    assert curve(ROWS, "rollout/score") == ([8], [0.5])
    assert curve(ROWS, "val/win_rate") == ([], [])  # a lone start would be no curve
    without = [{k: v for k, v in row.items() if k != "reference/score"} for row in ROWS]
    assert curve(without, "val/score") == ([16, 24], [1, 2.5])


def test_what_is_0_throughout_has_no_panel():
    assert [panel.title for panel in shown_panels(ROWS)] == ["score"]


def test_supervised_training_is_over_steps():
    rows = [{"step": i, "train/loss": 1 / i, "train/accuracy": 0.5} for i in (1, 2)]
    rows[-1] |= {"val/loss": 0.25}
    assert [panel.title for panel in shown_panels(rows)] == ["loss", "accuracy"]
    assert curve(rows, "val/loss") == ([2], [0.25])


@pytest.mark.parametrize("rows", [ROWS, [{"step": 1, "train/loss": 2.0}]])
def test_a_picture_with_any_title(rows, tmp_path, capsys):
    assert drawn(tmp_path / "a.png", lambda path: draw_run(rows, "$x^{$ \x1b", path))
    assert capsys.readouterr().err == ""
    assert not drawn(tmp_path / "b.png", lambda path: draw_run([{"step": 1}], "", path))


def test_every_drawn_metric_is_one_that_is_logged():
    """By docs/metrics.md, which a test holds against what runs log."""
    named = {m for p in (*POLICY, REWARD) for m in (*p.metrics, *(p.band or ()))}
    named |= {*AT_START, *(start for start in AT_START.values() if isinstance(start, str))}
    known = re.findall(r"`(\w+/\w+)`", METRICS.read_text(encoding="utf-8"))
    assert named - set(known) == set()
    assert all(panel.unit for panel in (*POLICY, REWARD, *SUPERVISED))
