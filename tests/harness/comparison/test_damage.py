"""One damaged run among others is left out by name, whatever the damage is."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.comparison import pages
from harness.comparison.writing import write_comparison
from harness.tasks.compare import terminal_table
from tests.harness.comparison.synthetic_runs import write_run

WRONG = (None, "abc", [1], {}, {"a": 1}, True, float("nan"), 1e400, -1, 10**400, "$x^{$", "\ud800")
TEXTS = (b"", b"{}", b"[1]", b"null", b"NaN", b'"a"', bytes(20), b"{" * 100_000, b"\xff\xfe junk")


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """compared(): the pages of three good runs and of one in `bad`, without pictures."""
    for name, options in (("a", {}), ("b", {"seed": 1}), ("c", {"algo__beta": 0.3})):
        write_run(tmp_path / "runs" / name, **options)
    write_run(tmp_path / "runs" / "bad", seed=1, algo__beta=0.3, gold=0.4)
    for name in ("draw_curves", "draw_frontier"):
        monkeypatch.setattr(pages, name, lambda runs, path: path.write_bytes(b""))

    def compare() -> dict[str, str]:
        found = write_comparison([str(tmp_path / "runs")], tmp_path / "out")
        terminal_table(found.measures)
        return {item.folder.name: item.reason for item in found.left_out}

    assert compare() == {}
    return compare


@pytest.fixture
def bad(tmp_path, compared) -> Path:
    return tmp_path / "runs" / "bad"


def places(content: dict, above: tuple = ()) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def put(content: dict, place: tuple[str, ...], value: Any) -> dict:
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value == "removed":
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_any_value_of_a_wrong_kind(name, bad, compared):
    content = json.loads((bad / name).read_text(encoding="utf-8"))
    for place in places(content):
        for value in (*WRONG, "removed"):
            (bad / name).write_text(json.dumps(put(content, place, value)), encoding="utf-8")
            left_out = compared()
            assert set(left_out) <= {"bad", "b", "c"}  # a changed seed or beta makes it a repeat


@pytest.mark.parametrize("name", ["run.json", "summary.json", "failed.json", "skipped.json"])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:8]))
def test_what_is_no_object(name, text, bad, compared):
    if name in ("failed.json", "skipped.json"):
        (bad / "run.json").unlink()
        (bad / ".hydra").mkdir()
        (bad / ".hydra" / "config.yaml").write_text(
            "_target_: harness.tasks.train.train", encoding="utf-8"
        )
    (bad / name).write_bytes(text)
    left_out = compared()
    assert set(left_out) == {"bad"}
    if text != b"{}" or name == "run.json":
        assert str(bad / name) in left_out["bad"]


@pytest.mark.parametrize("name", ["run.json", "summary.json", "metrics.csv"])
def test_a_folder_in_the_place_of_a_file_and_no_file(name, bad, compared):
    (bad / name).rename(bad / "away")
    assert set(compared()) <= {"bad"}
    (bad / name).mkdir()
    assert set(compared()) <= {"bad"}


@pytest.mark.parametrize(
    "run", ["1", "null", "[]", '"' + "a" * 5000 + '"', '"\\u0000"'], ids=lambda run: run[:6]
)
def test_a_skipped_job_that_points_nowhere(run, bad, compared):
    (bad / "run.json").unlink()
    (bad / "skipped.json").write_text(f'{{"run": {run}}}', encoding="utf-8")
    assert set(compared()) == {"bad"}


METRICS = {
    "empty": lambda data: b"",
    "NUL": lambda data: data + bytes(50),
    "torn": lambda data: data[:-9],
    "a hole": lambda data: b"".join([*data.splitlines(True)[:2], *data.splitlines(True)[3:]]),
    "twice": lambda data: data + data,
    "text": lambda data: data.replace(b"0.1,", b"abc,"),
    "junk": lambda data: os.urandom(500),
    "header": lambda data: data.replace(b"step", b"stop"),
    "a column twice": lambda data: data.replace(b"val/kl", b"step"),
    "a quote": lambda data: data.replace(b"0.1,", b'"0.1,'),
    "a field of megabytes": lambda data: data + b"9" * 2_000_000,
    "begins late": lambda data: b"".join(data.splitlines(True)[i] for i in (0, 3, 4)),
}


@pytest.mark.parametrize("damage", METRICS)
def test_metrics_that_are_not_whole(damage, bad, compared):
    path = bad / "metrics.csv"
    path.write_bytes(METRICS[damage](path.read_bytes()))
    left_out = compared()
    assert set(left_out) == {"bad"}
    assert str(path) in left_out["bad"]
