"""What a crash leaves of files that grow: whole rows count, and what is missing is named."""

import json

import pytest

from harness.errors import DiskError, RunError
from harness.tracking.metrics_csv import MetricsCsv
from harness.tracking.whole_rows import json_rows, metrics_rows
from tests.harness.runs.test_checkpoints import files_of_at_most


@pytest.fixture
def log(tmp_path):
    """A metrics.csv of five steps, one line each below its header."""
    log = MetricsCsv(tmp_path / "metrics.csv")
    for step in range(5):
        log.log_metrics({"a": step / 3, "b": 1.0}, step)
    return tmp_path / "metrics.csv"


def lines(path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


TORN = {
    "a torn last line": lambda rows: [*rows[:5], rows[5][:7]],
    "a last line without its end": lambda rows: [*rows[:5], rows[5][:-2]],
    "NUL after a power cut": lambda rows: [*rows[:5], bytes(300)],
    "lines of NUL": lambda rows: [*rows[:5], bytes(30) + b"\n", bytes(30) + b"\r\n"],
    "junk": lambda rows: [*rows[:5], b"\xff\xfe,\x80\n", b"again\n"],
    "a missing last row": lambda rows: rows[:5],
    "more fields": lambda rows: [*rows[:5], rows[5].replace(b"\r\n", b",1.0\r\n")],
    "text for a number": lambda rows: [*rows[:5], b"5,x,1.0\r\n"],
    "the last row twice": lambda rows: [*rows[:5], rows[4]],
    "a quote that does not end": lambda rows: [*rows[:5], b'5,"1.0,1.0\r\n'],
}


@pytest.mark.parametrize("damage", TORN)
def test_whole_rows_count(damage, log, tmp_path):
    whole = lines(log)
    log.write_bytes(b"".join(TORN[damage](whole)))
    assert [row["step"] for row in metrics_rows(log).rows] == ["1", "2", "3", "4"]
    with pytest.raises(RunError, match=r"metrics\.csv(, row 6)?: .*goes on after step 5"):
        MetricsCsv(log, keep_steps=5)
    resumed = MetricsCsv(log, keep_steps=4)
    resumed.log_metrics({"a": 4 / 3, "b": 1.0}, 4)
    assert lines(log) == whole


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: [*rows[:2], *rows[3:]], "row 3: is not of step 2 but of '3'"),
        (lambda rows: rows[1:], "row 1: is no header"),
        (lambda rows: [], "row 1: is no header"),
        (lambda rows: [b"step,a,a\r\n", *rows[1:]], "row 1: is no header"),
        (lambda rows: [bytes(20), *rows], "row 1: is no header"),
        (lambda rows: [b"step,a\r\n", *rows[1:]], "row 2: has 3 of 2 fields"),
    ],
)
def test_a_hole_before_the_checkpoint_is_named_and_nothing_is_changed(damage, message, log):
    log.write_bytes(b"".join(damage(lines(log))))
    before = log.read_bytes()
    with pytest.raises(RunError, match=message):
        MetricsCsv(log, keep_steps=4)
    assert log.read_bytes() == before


def test_moved_away_it_begins_again_and_says_so(log, tmp_path):
    log.unlink()
    resumed = MetricsCsv(log, keep_steps=5)
    resumed.log_metrics({"a": 1.0}, 5)
    assert resumed.notes == [f"{log}: is missing; it begins again after step 5"]
    again = MetricsCsv(log, keep_steps=6)
    assert again.notes == [f"{log}: begins with step 6; the others are lost"]
    assert [row["step"] for row in again.rows] == ["6"]


def test_other_columns_than_before_are_kept_beside_each_other(log):
    resumed = MetricsCsv(log, keep_steps=2)
    resumed.log_metrics({"c": 7.0}, 2)
    found = metrics_rows(log)
    assert found.wrong is None
    assert found.rows[2] == {"step": "3", "a": "", "b": "", "c": "7.0"}


def test_a_row_that_does_not_fit_leaves_the_file_as_it_was(log):
    before = log.read_bytes()
    resumed = MetricsCsv(log, keep_steps=5)
    with (
        files_of_at_most(len(before) + 5),
        pytest.raises(DiskError, match=r"metrics\.csv: cannot be written \(File too large\)"),
    ):
        resumed.log_metrics({"a": 0.123456789, "b": 1.0}, 5)
    assert log.read_bytes() == before


def test_whole_lines_of_samples_count_and_damaged_ones_are_named(tmp_path):
    path = tmp_path / "samples.jsonl"
    good = [json.dumps({"iteration": i, "answer": "a"}) for i in range(1, 5)]
    foreign = ["{}", "[1]", "null", '{"iteration": "2", "answer": "a"}', "\0\0", '{"iteration": 2}']
    path.write_text(
        "\n".join([good[0], *foreign, *good[1:]]) + '\n{"iteration": 5, "ans', encoding="utf-8"
    )
    rows, wrong = json_rows(path, 3)
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert [text.split(":")[0] for text in wrong] == [f"{path}, line {n}" for n in range(2, 8)]
