"""Curves of several seeds on one grid, and pictures of what is there only."""

import numpy as np

from harness.comparison.figures import aligned, draw_frontier, drawn_curves
from harness.comparison.grouping import configurations
from harness.comparison.reading import CURVES, Curve, collect
from tests.harness.comparison.synthetic_runs import write_run


def curve(episodes, values) -> Curve:
    return Curve(np.array(episodes, float), np.array(values, float), np.zeros(len(values)))


def test_curves_of_equal_episodes_are_taken_as_they_are():
    grid, values = aligned([curve([8, 16], [1, 2]), curve([8, 16], [3, 5])])
    assert grid.tolist() == [8, 16]
    assert values.tolist() == [[1, 2], [3, 5]]


def test_curves_of_unequal_episodes_are_interpolated_where_all_are_known():
    grid, values = aligned([curve([0, 20], [0, 2]), curve([5, 10, 40], [1, 3, 9])])
    assert grid.tolist() == [5, 10, 20]
    np.testing.assert_allclose(values, [[0.5, 1, 2], [1, 3, 5]])
    apart, nothing = aligned([curve([0, 1], [0, 0]), curve([5, 6], [1, 1])])
    assert (len(apart), nothing.shape) == (0, (2, 0))


def test_what_no_run_knows_is_not_drawn(tmp_path):
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "metrics.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("val/kl", "unknown"), encoding="utf-8")
    found = configurations(collect([str(tmp_path)])[0])
    unknown = {"val/kl", "val/gold", "train/explained_variance"}
    assert drawn_curves(found) == [metric for metric in CURVES if metric not in unknown]
    assert not draw_frontier(found, tmp_path / "frontier.png")
    assert not (tmp_path / "frontier.png").exists()
