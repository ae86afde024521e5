"""JSON of any layout."""

import json
import math
import random

import pytest

from datamodules.records import DataError
from datamodules.sources.reading.readers import rows_of

ROWS = [
    {"prompt": f"q{i}", "chosen": ["a", {"b": i}], "rejected": "x\ny [{,", "data": [1, 2]}
    for i in range(5)
]
LINES = [json.dumps(row) for row in ROWS]
LAYOUTS = {
    "a line each": "\n".join(LINES),
    "a line each, with space": "\n\n  " + " \n\t\n ".join(LINES) + "\r\n\r\n",
    "array": json.dumps(ROWS),
    "array of lines": "[\n" + ",\n".join(LINES) + "\n]\n",
    "array over lines": json.dumps(ROWS, indent=2),
    "array with a last comma": "[" + ",".join(LINES) + ",]",
    "wrapped": json.dumps({"version": 1, "data": ROWS}),
    "wrapped as a split": json.dumps({"train": ROWS, "features": ["a"]}),
    "wrapped as the hub's viewer has it": json.dumps(
        {
            "features": [{"name": "a"}],
            "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)],
        }
    ),
    "arrays after each other": json.dumps(ROWS[:2]) + "\n" + json.dumps(ROWS[2:]),
}
OVER_LINES = {
    "objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "wrapped": json.dumps({"data": ROWS, "about": {}}, indent=4),
}


def rows(folder, text, name="a.json"):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return list(rows_of(path))


def fail(folder, text, name="a.json"):
    with pytest.raises(DataError) as error:
        rows(folder, text, name)
    return str(error.value).removeprefix(f"{folder / name}")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "A.NDJSON"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_file_holds_counts_and_not_what_it_is_called(tmp_path, layout, name):
    found = rows(tmp_path, LAYOUTS[layout], name)
    assert [row for _, row in found] == ROWS
    assert len({place for place, _ in found}) == len(ROWS)


@pytest.mark.parametrize("layout", OVER_LINES)
def test_objects_over_several_lines_are_read_from_json(tmp_path, layout):
    assert [row for _, row in rows(tmp_path, OVER_LINES[layout])] == ROWS
    message = fail(tmp_path, OVER_LINES[layout], "a.jsonl")
    assert message.startswith(", line 1: not valid JSON")
    assert "call the file .json" in message


def test_places_are_the_lines_where_rows_begin(tmp_path):
    """Against a count of the lines before each row, whatever space there is between them."""
    rng = random.Random(0)
    text, expected = "\n[", []
    for number, row in enumerate(ROWS, start=1):
        text += rng.choice(["", "\n", "\r\n\n", " \n "])
        expected.append(f"{tmp_path / 'a.json'}, line {text.count(chr(10)) + 1} (row {number})")
        text += json.dumps(row, indent=rng.choice([None, 1])) + rng.choice(["", "\n"]) + ","
    assert [place for place, _ in rows(tmp_path, text[:-1] + "]")] == expected


def test_a_row_of_one_object_is_a_row(tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "data": [{"x": 1}]}
    for name in ("a.json", "a.jsonl"):
        assert [found for _, found in rows(tmp_path, json.dumps(row), name)] == [row]


@pytest.mark.parametrize("text", ["", "\n \r\n", "[]", '{"data": []}'])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_without_rows_there_are_none(tmp_path, text, name):
    assert rows(tmp_path, text, name) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[\n" + ",\n".join(LINES), ", line 6: not valid JSON (a comma or ] is missing; the file"),
        ("[\n" + ",\n".join(LINES)[:-3], ", line 6: not valid JSON (Expecting value"),
        ('["a\n", "b', ", line 1: not valid JSON (Invalid control character"),
        ("[\n" + "\n".join(LINES) + "]", ", line 3: not valid JSON (a comma or ] is missing)"),
        ("[1,\n\n2 3]", ", line 3: not valid JSON"),
        ('{"data": [\n{"a": 1},\n{"a": }]}', ", line 3: not valid JSON"),
    ],
)
def test_what_is_broken_has_its_line(tmp_path, text, said):
    assert fail(tmp_path, text).startswith(said)


def test_a_broken_row_of_many_has_its_line_and_column(tmp_path):
    for name in ("a.json", "a.jsonl"):
        message = fail(tmp_path, "\n".join([*LINES, '{"prompt": q}']), name)
        assert message == ", line 6: not valid JSON (Expecting value, column 12)"


NUMBERS = '{"a": NaN, "b": [Infinity, -Infinity], "c": 1e400, "d": 1%s, "e": -0.0}' % ("0" * 400)


def test_numbers_beyond_json_and_beyond_floats_reach_the_rows(tmp_path):
    ((_, row),) = rows(tmp_path, NUMBERS, "a.jsonl")
    assert math.isnan(row["a"])
    assert row["b"] == [math.inf, -math.inf]
    assert row["c"] == math.inf
    assert row["d"] == 10**400


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        ('{"a": ' + '{"a":' * 500 + "1" + "}" * 500 + "}", "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('{"chosen": "x", "b": 1, "chosen": "y"}', "the name 'chosen' stands twice"),
        ('{"m": [{"role": "user", "role": "user"}]}', "the name 'role' stands twice"),
    ],
)
def test_what_no_row_can_mean_has_its_line(tmp_path, row, said, name):
    message = fail(tmp_path, "\n".join([*LINES, row]), name)
    assert message.startswith(", line 6")
    assert said in message
    message = fail(tmp_path, "[" + ",\n".join([*LINES, row]) + "]", name)
    assert message.startswith(", line 6")
    assert said in message


def test_brackets_in_texts_are_no_depth(tmp_path):
    row = {"prompt": "[{" * 5000, "chosen": [[1]] * 500, "rejected": "b"}
    assert [found for _, found in rows(tmp_path, json.dumps(row))] == [row]
