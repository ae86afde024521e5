"""A text on the terminal is the text: no markup, no control, no letter that the stream lacks."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from harness.reports.console import draw, make_console, samples_table, say
from harness.reports.plain_console import PlainConsole, line
from tests.harness.progress.test_bar import bar_on, trainer_at

TEXTS = (
    r"\[x^2\] and \[/INST]",
    "[bold]b[/bold] [/] [link=https://a]",
    ":smile: :warning:",
    "runs/[v2] [red]/x",
    "100% of 'a' == 1.5",
)
OWN = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")  # what rich itself writes


def printed(thing, **options) -> str:
    file = options.pop("file", None) or io.StringIO()
    PlainConsole(file=file, width=100, **options).print(thing)
    return file.getvalue() if isinstance(file, io.StringIO) else ""


def table_of(text: str) -> Table:
    table = Table(title=text, caption=text)
    table.add_column(text)
    table.add_row(text)
    return table


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_in_a_text_is_markup(text):
    assert printed(text) == f"{text}\n"
    assert printed(line(text, (text, "bold"))) == f"{text}{text}\n"
    assert printed(table_of(text)).count(text) == 4


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "\x1b]0;t\x07", "x\ry\b", "\u202eabc", "\x9b1m"])
@pytest.mark.parametrize("make", [str, Text, line, table_of, lambda text: line((text, "bold"))])
def test_nothing_in_a_text_reaches_a_terminal_as_control(text, make):
    shown = printed(make(text), force_terminal=True)
    rest = OWN.sub("", shown)
    assert all(c.isprintable() or c in "\n" for c in rest)
    assert "2J" not in "".join(OWN.findall(shown))


def test_tables_stay_straight_around_what_is_written_out():
    rows = [[f"{i}\x1b[31m\u202e{'é' * i}", "漢字"] for i in range(5)]
    for encoding in ("utf-8", "ascii", "latin-1"):
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding)  # strict: nothing is left to replace
        table = Table()
        for row in rows:
            table.add_row(*row)
        printed(table, file=file)
        file.flush()
        lines = raw.getvalue().decode(encoding).splitlines()
        assert len({cell_len(text) for text in lines}) == 1


def test_joined_emoji_lines_and_letters_from_right_to_left_stay():
    text = "👩\u200d👩\u200d👧 سلام\nsecond line"
    shown = printed(table_of(text))
    for part in ("👩\u200d👩\u200d👧", "سلام", "second line"):
        assert part in shown


def test_samples_are_shown_as_they_are():
    row = {"prompt": r"\[a\] [/INST]", "answer": "\x1b[1m", "reference_answer": "[/bold]"}
    shown = printed(samples_table([row | {"score": 1.0, "reference_score": None}]))
    for text in (r"\[a\] [/INST]", r"\x1b[1m", "[/bold]"):
        assert text in shown


def test_labels_of_a_progress_bar_are_no_markup_either():
    bar, _ = bar_on("[red]\x1b]0;a\x07:smile:", width=100, force_terminal=True)
    trainer = trainer_at({})
    bar.on_train_start(trainer, None)
    bar.live.refresh()
    shown = bar.console.file.getvalue()
    bar.on_train_end(trainer, None)
    assert "[red]\\x1b]0;a\\x07:smile:" in shown
    assert "\x1b]0" not in bar.console.file.getvalue()
    assert "\x07" not in bar.console.file.getvalue()


def test_a_terse_console_shows_what_it_is_to_tell_and_counts_warnings():
    console = PlainConsole(file=io.StringIO(), width=100, terse=True)
    console.print("a detail")
    console.print("  warning: something")
    console.tell("a stage is made")
    assert console.file.getvalue() == "a stage is made\n"
    assert console.warnings == 1


def test_what_cannot_be_drawn_is_a_line_and_the_next_thing_is_shown():
    console = PlainConsole(file=io.StringIO(), width=100)

    def fails():
        raise KeyError("[/bold]")

    draw(console, fails, lambda: 1 / 0, lambda: ["one", "two"], lambda: table_of("last"))
    shown = console.file.getvalue()
    assert shown.count("could not be drawn") == 2
    assert "'[/bold]'" in shown
    assert "one\ntwo\n" in shown
    assert "last" in shown


def test_lines_are_as_long_as_they_are(capsys):
    say(make_console(), ["x" * 300])
    assert capsys.readouterr().out == "x" * 300 + "\n"


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_who_is_alone_speaks_whatever_a_scheduler_says(variable, monkeypatch):
    monkeypatch.setattr("harness.reports.console.this_rank", lambda: 1)
    monkeypatch.setenv(variable, "1")
    assert make_console().quiet
    assert not make_console(alone=True).quiet
