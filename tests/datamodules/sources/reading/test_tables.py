"""Files that are one object: what is said, and whether the command in it does what it promises."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.records import DataError
from datamodules.sources.reading.readers import rows_of

NAMES = ("prompt", "chosen", "rejected")
ROWS = [
    {"prompt": f"Où {i}?", "chosen": "it's “a”\nb", "rejected": [{"role": "user", "content": "c"}]}
    for i in range(12)
]
COLUMNS = {name: [row[name] for row in ROWS] for name in NAMES}
NUMBERED = {name: {str(i): v for i, v in enumerate(values)} for name, values in COLUMNS.items()}
TABLES = {
    "a list under a name": {"instances": ROWS, "version": 2},
    "a name with quotes": {'it\'s "$HOME"': ROWS},
    "splits": {"train": ROWS, "test": ROWS[:2]},
    "columns": COLUMNS,
    "numbered columns": NUMBERED,
    "columns apart": {
        "columns": list(NAMES),
        "index": list(range(12)),
        "data": [list(row.values()) for row in ROWS],
    },
    "by id": {f"id{i}": row for i, row in enumerate(ROWS)},
    "by number": {str(i): row for i, row in enumerate(ROWS)},
}


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "lines"])
@pytest.mark.parametrize("name", ["it's a.json", "a.json.gz"])
@pytest.mark.parametrize("table", TABLES)
def test_the_command_makes_rows_of_it(tmp_path, table, name, indent):
    content = json.dumps(TABLES[table], ensure_ascii=False, indent=indent).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError) as error:
        list(rows_of(path))
    said, command = str(error.value).split(": is one object", 1)[1].split("a row on each: ")
    assert repr(next(iter(TABLES[table]))) in said
    python = f"alias python={sys.executable}"  # as a shell of the user's would find it
    subprocess.run(
        ["bash", "-c", f"shopt -s expand_aliases\n{python}\n{command}"], check=True, cwd=tmp_path
    )
    assert [row for _, row in rows_of(tmp_path / "rows.jsonl")] == ROWS


TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SINGLE = {
    "texts": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "conversations": {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": TALK[1:]},
    "other names": {"question": TALK[0], "good": TALK[1], "bad": TALK[1]},
    "ranked": {"prompt": "a", "responses": ["b", "c"], "ratings": [1, 2]},
    "messages": {"messages": TALK, "rejected_response": "c"},
    "OpenAI": {"input": {"messages": TALK[:1]}, "preferred_output": TALK[1:]},
    "completions": {"instruction": "a", "completions": [{"response": "b"}, {"response": "c"}]},
}


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "lines"])
@pytest.mark.parametrize("row", SINGLE)
def test_a_row_alone_in_its_file_is_a_row(tmp_path: Path, row, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(SINGLE[row], indent=indent), encoding="utf-8")
    assert [found for _, found in rows_of(path)] == [SINGLE[row]]


def test_texts_that_the_viewer_has_cut_are_no_rows(tmp_path):
    rows = [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(ROWS)]
    rows[3]["truncated_cells"] = ["chosen"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    with pytest.raises(DataError, match="texts of 'row_idx' 3 are cut"):
        list(rows_of(path))
