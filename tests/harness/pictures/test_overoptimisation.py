"""The way from the reference: where it begins, and which way it goes."""

import matplotlib.axes
import numpy as np
import pytest

from harness.pictures.drawing import drawn
from harness.pictures.overoptimisation import draw


@pytest.fixture
def arrows(monkeypatch):
    """The (from, to) of every arrow that is drawn."""
    found = []
    annotate = matplotlib.axes.Axes.annotate

    def noted(self, text, xy, xytext, **style):
        found.append((xytext, xy))
        return annotate(self, text, xy, xytext, **style)

    monkeypatch.setattr(matplotlib.axes.Axes, "annotate", noted)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_arrows_go_with_training_whatever_the_number_of_points(count, arrows, tmp_path):
    """KL that falls and rises: the arrows lead from an evaluation towards the next one."""
    kl = np.abs(np.sin(np.arange(count))) * 4
    points = [
        {"rollout/episodes": i, "val/kl": k, "val/score": float(i), "watched": -float(i)}
        for i, k in enumerate(kl)
    ]
    picture = tmp_path / "a.png"
    assert drawn(picture, lambda path: draw(points, "gold", "$x^{$", path))
    assert len(arrows) == 2 * min(6, count - 1)
    way = list(zip(np.sqrt(kl), range(count), strict=True))
    for begin, end in arrows[: len(arrows) // 2]:  # of the score
        i = way.index(begin)
        np.testing.assert_allclose(end, np.mean([way[i], way[i + 1]], axis=0))


def test_a_negative_kl_estimate_is_drawn_at_0(tmp_path):
    point = {"rollout/episodes": 8.0, "val/kl": -0.1, "val/score": 1.0, "watched": 0.5}
    draw([point], "gold", "", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
