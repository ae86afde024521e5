"""Whatever the width, a table shows every word and every number, whole."""

import io
import re

import pytest
from rich.cells import cell_len

from harness.reports.console import samples_table
from harness.reports.plain_console import PlainConsole
from harness.reports.word_table import WordTable

CELLS = (
    ("win rate", "-0.735 (std 1.169)", "0.508 to 0.851", "漢字 Rindfleischetikettierung"),
    ("", "1,234,567.25", "", "algo.prompts_per_iteration=32 two\nlines"),
)
HEADERS = ("", "reference", "policy", "options and folder")


def shown(table, width: int) -> list[str]:
    console = PlainConsole(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()


def table_of(**options) -> WordTable:
    table = WordTable(title="what the numbers mean", **options)
    for header in HEADERS:
        table.add_column(header)
    for row in CELLS:
        table.add_row(*row)
    return table


@pytest.mark.parametrize("width", range(20, 130, 5))
@pytest.mark.parametrize("header", [True, False])
def test_every_word_is_there_and_no_line_is_too_long(width, header):
    lines = shown(table_of(show_header=header), width)
    words = set(re.sub("[\u2500-\u257f]", " ", "\n".join(lines)).split())
    assert {word for row in CELLS for cell in row for word in cell.split()} <= words
    for line in lines:
        assert cell_len(line) <= width or max(map(cell_len, line.split())) > width - 4


def test_rows_stay_in_their_order_where_there_is_no_room_for_columns():
    lines = [line.split() for line in shown(table_of(), 40)]
    places = [lines.index(["win", "rate"]), lines.index(["policy", "0.508", "to", "0.851"])]
    assert places == sorted(places)
    assert ["reference", "1,234,567.25"] in lines


def test_a_column_of_text_is_wide_enough_to_be_read_or_is_none():
    row = {"prompt": "a b", "answer": "c d", "reference_answer": "e f"}
    rows = [row | {"score": -1.25, "reference_score": 0.5, "gold": 1.0, "reference_gold": 0.0}]
    long = [rows[0] | dict.fromkeys(row, "word " * 30)]
    assert any("│" in line for line in shown(samples_table(rows), 80))
    assert not any("│" in line for line in shown(samples_table(long), 80))
    for line in shown(samples_table(long), 110):
        for cell in (line.split("│")[i] for i in (1, 2, 4) if "│" in line):
            assert len(cell) >= 20
