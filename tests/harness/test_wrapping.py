"""Lines end between words, and a word is never lost, changed or broken."""

import io
import itertools
import os
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from harness.reports.plain_console import NAME, WHOLE, PlainConsole, line, wrapped_text
from harness.typed import option
from harness.wrapping import columns, wrapped

WORDS = ("a", "word", "-0.735", "1,424", "漢字", "(std", "/a/long/path/of/a/run/model", "e\u0301")
COMMANDS = (
    "`python run.py hardware=ddp seed=1`",
    option("resume", "outputs/a run"),
    option("data.path", "my data/it's [v2].jsonl"),
    "60.5 MiB",
)


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=30),
    st.integers(20, 90),
    st.integers(0, 6),
)
def test_words_stay_and_lines_fit_where_they_can(words, width, indent):
    text = " " * indent + " ".join(words)
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == words
    assert lines[0].startswith(" " * indent + words[0])
    for row in lines:
        assert cell_len(row) <= width or len(row.split()) == 1
    # No line is left early: the word that begins the next one did not fit.
    for row, after in itertools.pairwise(lines):
        assert cell_len(f"{row} {after.split()[0]}") > width


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [24, 40, 60])
def test_commands_and_numbers_with_their_units_are_not_broken(command, width):
    text = f"to go on with what there is already, type {command} in the same folder"
    assert command in wrapped(text, width)
    assert shlex.split(command.strip("`"))  # it is one


def test_further_lines_stand_below_the_first_behind_its_label():
    text = f"  warning: {'one two ' * 6}\n  user     {'three four ' * 4}"
    indents = [len(row) - len(row.lstrip()) for row in wrapped(text, 36).split("\n")]
    assert indents == [2, 4, 2, 11]


def test_a_path_that_fits_on_no_line_stays_beside_its_label():
    path = "/a" * 40
    assert wrapped(f"model    {path}", 60) == f"model    {path}"


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), st.integers(20, 60))
def test_marked_parts_of_a_line_are_words_and_keep_their_style(words, width):
    part = f"<{' '.join(words)}>"
    shown = wrapped_text(line("made of ", (part, NAME), " and kept in ", (part, WHOLE)), width)
    assert shown.plain.count(part) == 2
    bold = [shown.plain[s.start : s.end] for s in shown.spans if s.style == NAME]
    assert "".join(bold).strip() == part


def test_a_console_breaks_lines_at_its_width_whatever_is_printed():
    for thing in ("word " * 40, Text("word " * 40), line(("word " * 40, "dim"))):
        console = PlainConsole(file=io.StringIO(), width=42)
        console.print(thing)
        rows = console.file.getvalue().splitlines()
        assert max(map(len, rows)) <= 42
        assert set(" ".join(rows).split()) == {"word"}


def test_what_is_no_terminal_has_no_width_and_a_terminal_without_one_has_80(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns(io.StringIO()) is None
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        assert columns(terminal) == 80
        for asked, given in (("66", 66), ("0", 80), ("-4", 80), ("wide", 80), ("3", 20)):
            monkeypatch.setenv("COLUMNS", asked)
            assert columns(terminal) == given
    os.close(ours)


def test_a_text_of_any_length_takes_no_time():
    text = "a " * 20_000 + "'" * 20_000 + "`" * 20_000 + " " * 20_000
    assert re.sub(r"\s", "", wrapped(text, 80)) == re.sub(r"\s", "", text)
