"""What the policies began as: a row for each reference, and where curves begin."""

import numpy as np
import pytest

from harness.comparison.figures import draw_frontier
from harness.comparison.grouping import configurations
from harness.comparison.measures import measure
from harness.comparison.reading import KL, SCORE, WIN_RATE, collect
from harness.comparison.references import from_start
from tests.harness.comparison.synthetic_runs import EPISODES, write_run


def compared(folder):
    return measure(configurations(collect([str(folder)])[0]))


def test_runs_of_one_seed_have_one_reference_and_seeds_are_averaged(tmp_path):
    """Two betas of seed 1 and one of seed 2: the mean is over the two seeds, not three runs."""
    for name, seed, beta, score in (("a", 1, 0.1, 0.2), ("b", 1, 0.2, 0.2), ("c", 2, 0.1, 0.6)):
        known = {"reference/score": score, "reference/length": 10.0 * seed}
        write_run(tmp_path / name, seed=seed, algo__beta=beta, summary=known)
    (reference,) = compared(tmp_path).references
    assert (reference.name, reference.seeds) == ("reference", [1, 2])
    score = reference.finals[SCORE]
    assert (score.value, score.low, score.high) == pytest.approx((0.4, 0.2, 0.6))
    assert reference.finals["val/length"].value == 15
    assert "val/gold" not in reference.finals


@pytest.mark.parametrize(
    "other",
    [
        {"summary": {"stages/sft/path": "/cache/sft/cccc"}},
        {"summary": {"stages/reward_model/path": "/cache/rm/cccc"}},
        {"reward__normalise": False},
        {"inputs": {"data": {"sha256": "b"}}},
    ],
)
def test_several_references_are_named_by_their_configurations(other, tmp_path):
    for i in range(3):
        write_run(tmp_path / f"{i}", algo__beta=i, **(other if i == 2 else {}))
    names = [reference.name for reference in compared(tmp_path).references]
    assert len(names) == 2
    assert sum(name.count("algo.beta=2") for name in names) == 1
    assert sum("algo.beta=0" in name and "algo.beta=1" in name for name in names) == 1


def test_a_curve_begins_with_the_reference_where_that_is_known(tmp_path):
    write_run(tmp_path / "known", scores=(0.5, 1.0), summary={"reference/score": -0.25})
    write_run(tmp_path / "unknown", seed=1, summary={"reference/score": None})
    known, unknown = sorted(collect([str(tmp_path)])[0], key=lambda run: run.seed)
    assert from_start(known, SCORE).episodes.tolist() == [0, 2 * EPISODES, 4 * EPISODES]
    assert from_start(known, SCORE).values.tolist() == [-0.25, 0.5, 1.0]
    assert from_start(known, KL).values[0] == 0
    assert from_start(known, WIN_RATE).values[0] == 0.5
    assert from_start(known, "val/gold") is None
    # Training's own metrics begin where they were logged first.
    assert from_start(known, "rollout/entropy").episodes[0] == EPISODES
    assert from_start(unknown, SCORE).episodes[0] == 2 * EPISODES


def test_the_way_from_the_reference_is_drawn_from_no_kl(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot",
        lambda self, x=(), y=(), *a, **k: lines.append((np.asarray(x), np.asarray(y))) or [None],
    )
    monkeypatch.setattr("harness.comparison.figures._finish", lambda *a: None)
    for seed, start in enumerate((0.0, 0.2)):
        known = {"reference/score": start}
        write_run(tmp_path / f"{seed}", seed=seed, scores=(0.5, 1.0), kl=4, summary=known)
    assert draw_frontier(configurations(collect([str(tmp_path)])[0]), tmp_path / "a.png")
    np.testing.assert_allclose(lines[0][0], [0, 2**0.5, 2])
    np.testing.assert_allclose(lines[0][1], [0.1, 0.5, 1.0])
